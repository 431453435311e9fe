"""What a judge's text says and what a verdict label is worth: the official rules of Arena-Hard v0.1 and of v2.

Which rules apply is decided by the format of the file that is scored; aipo-lab itself judges by those of v0.1.
Sources: lmarena/arena-hard-auto 8f2f44d (v0.1: gen_judgment.py, show_result.py) and 196f6b8 (v2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aipo_lab.benchmarks.spoken import spoken

STRONG_WEIGHT = 3
"""A strong preference (`>>`) counts as this many battles."""

_IN_DOUBLE_BRACKETS = re.compile(r"\[\[([AB<>=]+)\]\]")
_IN_SINGLE_BRACKETS = re.compile(r"\[([AB<>=]+)\]")

Worth = tuple[float, int]
"""The outcome for assistant A (1 win, 0.5 tie, 0 loss) and the number of battles it counts as."""

_V01_LABELS: dict[str, Worth] = {
    "A>>B": (1.0, STRONG_WEIGHT),
    "A>B": (1.0, 1),
    "A=B": (0.5, 1),
    "B>A": (0.0, 1),
    "B>>A": (0.0, STRONG_WEIGHT),
}
_V2_LABELS: dict[str, Worth] = _V01_LABELS | {
    "A<<B": (0.0, STRONG_WEIGHT),
    "A<B": (0.0, 1),
    "B=A": (0.5, 1),
    "B<A": (1.0, 1),
    "B<<A": (1.0, STRONG_WEIGHT),
}


def distinct_labels(text: str) -> list[str]:
    """The different labels in double brackets, in order: v0.1 takes one for a verdict and asks again after none.

    Labels in blocks of thought are none (`spoken`); the official judges wrote no such blocks.
    """
    return list(dict.fromkeys(_IN_DOUBLE_BRACKETS.findall(spoken(text))))


def verdict_v01(text: str) -> str | None:
    """The only label of the text, however often it stands there; None where there is none or they differ."""
    labels = distinct_labels(text)
    return labels[0] if len(labels) == 1 else None


def verdict_v2(text: str) -> str | None:
    """The last label in double brackets, else the last one in single brackets; case does not matter."""
    said = spoken(text).upper()
    labels = _IN_DOUBLE_BRACKETS.findall(said) or _IN_SINGLE_BRACKETS.findall(said)
    return labels[-1] if labels else None


@dataclass(frozen=True)
class Rules:
    """How one version of Arena-Hard scores judgments.

    `needs_both_games`: whether a question with one game that has no verdict is left out with both of its games.
    `interval_percent`: the coverage of the bootstrap interval that this version reports.
    """

    version: str
    labels: Mapping[str, Worth]
    read_verdict: Callable[[str], str | None]
    needs_both_games: bool
    interval_percent: float


V01 = Rules("v0.1", _V01_LABELS, verdict_v01, needs_both_games=False, interval_percent=95.0)
V2 = Rules("v2", _V2_LABELS, verdict_v2, needs_both_games=True, interval_percent=90.0)


@dataclass(frozen=True)
class Game:
    """A game's outcome: the judge's `text`, the `label` that official files call `score`, and why it has no verdict."""

    text: str
    label: str | None
    failure: str | None


def judged_game(text: str, label: str | None, rules: Rules) -> Game:
    """The game with this text and label; its failure is None if the label is one of the version's verdicts."""
    if label in rules.labels:
        return Game(text, label, None)
    if label is not None:
        return Game(text, label, f"the verdict {label!r} is none of {', '.join(rules.labels)}")
    if not text.strip():
        return Game(text, label, "no reply")
    labels = distinct_labels(text)
    return Game(text, label, f"contradictory verdicts: {', '.join(labels)}" if len(labels) > 1 else "no verdict label")
