"""The `select` rules: how a sweep file writes them, and what each asks of a (trial, iteration) point."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.errors import UserError
from aipo_lab.core.numbers import number_text

VALID_FORMS = "corner, corner@<k>x, knee, top_left, max:<metric>, max:<metric>@length<=<x>"
DEFAULT_RULE = "corner"
LENGTH_MULTIPLE = 2.0
"""How many times the base model's length counts as much as the whole way from the worst to the best win rate.

At 2, an answer twice as long as the base model's has to win every time to be no farther from the corner than the base
model itself, where the base model is the opponent: a doubled length buys parity at best."""
MOST_MULTIPLE = 100.0
_MAX_RULE = re.compile(r"max:(?P<metric>[A-Za-z0-9_./-]+)(?:@length<=(?P<limit>[^@]+))?")
_CORNER_RULE = re.compile(r"corner@(?P<multiple>[^@]+)x")


@dataclass(frozen=True)
class SelectionRule:
    """A parsed rule. `metric` and `length_limit` (in the length metric's unit) belong to `max`.

    `length_multiple` belongs to `corner`: its length axis ends at so many times the base model's length.
    """

    kind: Literal["corner", "knee", "top_left", "max"]
    metric: str | None = None
    length_limit: float | None = None
    length_multiple: float = LENGTH_MULTIPLE

    def __str__(self) -> str:
        if self.kind == "corner" and self.length_multiple != LENGTH_MULTIPLE:
            return f"corner@{number_text(self.length_multiple)}x"
        if self.kind != "max":
            return self.kind
        limit = "" if self.length_limit is None else f"@length<={number_text(self.length_limit)}"
        return f"max:{self.metric}{limit}"


def parse_rule(text: str) -> SelectionRule:
    """Parse one of `VALID_FORMS`; `corner` is `corner@2x`.

    A metric without a benchmark (`max:win_rate`) means that metric of whichever benchmark is being looked at.
    Raises `UserError` naming the value, the rule and the valid forms.
    """
    compact = "".join(text.split())
    if compact in ("corner", "knee", "top_left"):
        return SelectionRule(compact)  # type: ignore[arg-type]
    if (corner := _CORNER_RULE.fullmatch(compact)) is not None:
        return SelectionRule("corner", length_multiple=_length_multiple(text, corner["multiple"]))
    match = _MAX_RULE.fullmatch(compact)
    if match is None:
        raise UserError(f"select: {text!r} is not a selection rule; write one of {VALID_FORMS}")
    metric, limit = match["metric"], match["limit"]
    benchmark, slash, name = metric.partition("/")
    if slash and (benchmark not in BENCHMARK_METRICS or not name):
        known = ", ".join(BENCHMARK_METRICS)
        raise UserError(f"select: {text!r} names no metric; write <benchmark>/<metric> with one of {known}")
    return SelectionRule("max", metric, None if limit is None else _length_limit(text, limit))


def _length_limit(text: str, limit: str) -> float:
    value = _number(limit)
    if not (math.isfinite(value) and value > 0):
        raise UserError(
            f"select: the length limit {limit!r} in {text!r} must be a number greater than 0; "
            "write for example max:win_rate@length<=60"
        )
    return value


def _length_multiple(text: str, multiple: str) -> float:
    value = _number(multiple)
    if not 1 < value <= MOST_MULTIPLE:
        raise UserError(
            f"select: the multiple {multiple!r} of the base model's length in {text!r} must be greater than 1 and at "
            f"most {MOST_MULTIPLE:g}; write for example corner@3x"
        )
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
