"""The rating in a judge's reply, by FastChat's rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from aipo_lab.benchmarks.spoken import spoken

NO_RATING = -1
"""What official judgment files say where there is no rating; never part of a mean."""

LARGEST_RATING = 1e6
"""A number beyond is no rating: it, or its square in the standard error, could overflow."""

_DOUBLE_BRACKETS = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_SINGLE_BRACKETS = re.compile(r"\[(\d+\.?\d*)\]")
_OTHER_FORM = re.compile(r"\[\[[^\[\]\n]{0,24}\]\]")
"""What stands where a rating should, but is none by the rule: `[[8/10]]`, `[[ 8 ]]`, `[[rating]]`."""
_REASON_CHARS = 40


@dataclass(frozen=True)
class Unrated:
    """A reply without a usable rating, and why."""

    reason: str


def rating_of(reply: str) -> float | Unrated:
    """The first number in double square brackets, else the first in single ones (FastChat `run_judge_single`).

    The number is read as a Python literal, as officially, so `8` is an int and `05` or digits of other scripts are
    no numbers: FastChat crashes on these, here they are a reason. Only the first match counts, a second
    verdict changes nothing. As officially, a rating outside 1-10 is kept and not clamped, and `[[8/10]]` or `[[ 8 ]]`
    is none. Blocks of thought, which FastChat's judges did not write, are no part of the reply (`spoken`).
    """
    said = spoken(reply)
    found = _DOUBLE_BRACKETS.search(said) or _SINGLE_BRACKETS.search(said)
    if found is None:
        other = other_form(reply)
        return Unrated("no number in square brackets" + (f" as FastChat reads it, but {other}" if other else ""))
    literal = found.group(1)
    shown = literal if len(literal) <= _REASON_CHARS else f"{literal[:_REASON_CHARS]}… ({len(literal)} characters)"
    try:
        rating: float = ast.literal_eval(literal)
    except (SyntaxError, ValueError):
        return Unrated(f"[{shown}] is not a number as Python writes one")
    return rating if rating <= LARGEST_RATING else Unrated(f"[{shown}] is too large for a rating")


def other_form(reply: str) -> str | None:
    """What stands in double brackets in a reply without a rating, if anything."""
    found = _OTHER_FORM.search(spoken(reply))
    return found.group() if found else None


def ratings_differ(reply: str) -> bool:
    """Whether the reply rates more than once, and not alike; the first rating counts."""
    return len({float(literal) for literal in _DOUBLE_BRACKETS.findall(spoken(reply))}) > 1


def rating_notes(replies: Sequence[str]) -> list[str]:
    """What a reader of scores from these replies has to know: how many rate differently, or in a form that is not read.

    An empty list if there is nothing to say.
    """
    notes = []
    if n_differing := sum(map(ratings_differ, replies)):
        notes.append(f"{n_differing} replies hold several different ratings; the first one counts, as officially")
    unread = [other_form(reply) for reply in replies if isinstance(rating_of(reply), Unrated) and other_form(reply)]
    if unread:
        notes.append(
            f"{len(unread)} replies hold no rating in FastChat's form, [[number]], but e.g. {unread[0]}; they count "
            "for nothing, as officially"
        )
    return notes
