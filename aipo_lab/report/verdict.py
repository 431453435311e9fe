"""The verdict of a sweep in words: who wins at the same length, what lengths did, and what points of win rate cost."""

from __future__ import annotations

from collections.abc import Sequence

from aipo_lab.figures.palette import objective_name
from aipo_lab.report.contenders import Contender, Field
from aipo_lab.report.effect_text import signed
from aipo_lab.report.findings import Finding
from aipo_lab.report.ordering import Ordering

ASKED = ("Who wins", "Does length grow", "Under which objective does length grow most")
"""The findings that a reader wants first, by how their questions begin."""


def verdict_sentences(ordering: Ordering, benchmark: str, several: bool) -> list[str]:
    """What stands on the first screen; nothing where nothing was compared. `several`: benchmarks are named."""
    if ordering.field is None:
        return []
    prefix = f"{benchmark}: " if several else ""
    said = [f"{prefix}{_one_line(finding)}" for finding in _asked_first(ordering.findings)]
    return [*said, f"{prefix}{_prices(ordering.field)}"]


def _asked_first(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for start in ASKED for finding in reversed(findings) if finding.question.startswith(start)]


def _one_line(finding: Finding) -> str:
    return f"{finding.question} {finding.answer}"


def _prices(field: Field) -> str:
    """What each contender has gained on the base model, and at what growth in length, the dearest first."""
    metrics = field.metrics
    assert metrics.length is not None

    def grown(one: Contender) -> float:
        effect = field.growth(one, metrics.length or "")
        return 0.0 if effect is None else effect.value

    unit = metrics.length_label.rpartition("(")[2].rstrip(")")
    parts = []
    for one in sorted(field.contenders, key=grown, reverse=True):
        won, longer = field.growth(one, metrics.win_rate), field.growth(one, metrics.length)
        parts.append(f"{objective_name(one.objective)} {signed(won)} points for {signed(longer)} {unit}")
    judged = metrics.win_rate_label.removesuffix(" (%)").lower()
    return f"Against the base model, after iteration {field.iteration}, {judged}: {'; '.join(parts)}."
