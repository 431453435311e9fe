"""What a judge's words say: a score, or which of two is better."""

from __future__ import annotations

import math
import re

FIRST, SECOND, TIE = 1.0, 0.0, 0.5
"""What a verdict is worth to the one that stood first."""

_FIRST_NAMES, _SECOND_NAMES = ("A", "1"), ("B", "2")


def read_score(text: str, pattern: str) -> float | None:
    """The last score in a reply; None if there is none, or it is not finite."""
    said = _last(text, pattern)
    try:
        score = float(said) if said is not None else math.nan
    except ValueError:
        return None
    return score if math.isfinite(score) else None


def read_verdict(text: str, pattern: str) -> float | None:
    """`FIRST`, `SECOND` or `TIE` by the last verdict in a reply; None if there is none."""
    said = _last(text, pattern)
    if said is None:
        return None
    return FIRST if said.upper() in _FIRST_NAMES else SECOND if said.upper() in _SECOND_NAMES else TIE


def _last(text: str, pattern: str) -> str | None:
    found = [match[1] for match in re.finditer(pattern, text) if match[1] is not None]
    return found[-1] if found else None
