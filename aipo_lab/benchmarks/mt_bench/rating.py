"""The rating in a judge's reply, by FastChat's rule."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

NO_RATING = -1
"""What official judgment files say where there is no rating; never part of a mean."""

LARGEST_RATING = 1e6
"""A number beyond is no rating: it, or its square in the standard error, could overflow."""

_DOUBLE_BRACKETS = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_SINGLE_BRACKETS = re.compile(r"\[(\d+\.?\d*)\]")
_REASON_CHARS = 40


@dataclass(frozen=True)
class Unrated:
    """A reply without a usable rating, and why."""

    reason: str


def rating_of(reply: str) -> float | Unrated:
    """The first number in double square brackets, else the first in single ones (FastChat `run_judge_single`).

    The number is read as a Python literal, as officially, so `8` is an int and `05` or digits of other scripts are
    no numbers: FastChat crashes on these, here they are a reason. Only the first match counts, a second
    verdict changes nothing. As officially, a rating outside 1-10 is kept and not clamped.
    """
    found = _DOUBLE_BRACKETS.search(reply) or _SINGLE_BRACKETS.search(reply)
    if found is None:
        return Unrated("no number in square brackets")
    literal = found.group(1)
    shown = literal if len(literal) <= _REASON_CHARS else f"{literal[:_REASON_CHARS]}… ({len(literal)} characters)"
    try:
        rating: float = ast.literal_eval(literal)
    except (SyntaxError, ValueError):
        return Unrated(f"[{shown}] is not a number as Python writes one")
    return rating if rating <= LARGEST_RATING else Unrated(f"[{shown}] is too large for a rating")
