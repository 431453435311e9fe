"""The report's section on the data: what the linter found, by rule, with why it matters and what to do said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aipo_lab.report.linting import RULES

SHOWN = 3
"""Findings of a rule that stand open; the others are folded away."""


@dataclass(frozen=True)
class RuleFindings:
    """All that one rule found. `first` and `more` are pairs of a place and of what was found there."""

    title: str
    advice: str
    first: list[tuple[str, str]]
    more: list[tuple[str, str]]


def group_findings(warnings: Sequence[tuple[str, str, int, str]]) -> list[RuleFindings]:
    """Findings (rule, trial, iteration, what) by rule, in the order of `RULES`, within one in the order given."""
    groups = []
    for rule in RULES:
        found = [(f"{trial}, iteration {t}", what) for name, trial, t, what in warnings if name == rule.name]
        if found:
            title = rule.name.replace("_", " ").capitalize()
            groups.append(RuleFindings(title, f"{rule.reason} {rule.next_step}", found[:SHOWN], found[SHOWN:]))
    return groups
