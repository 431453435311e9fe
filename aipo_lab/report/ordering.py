"""How the contenders of a sweep compare: the paper's claims and the sweep's own findings, none of them by chance.

All that a report says of differences is wrong, anywhere in it, in at most 5 % of sweeps of equal trials. The share is
divided among the report's benchmarks, and for each into halves: claims and questions of which it is known beforehand
what they compare, and the comparisons of all pairs at the matched length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.report.claims import Claim, paper_claims
from aipo_lab.report.contenders import Field, get_field
from aipo_lab.report.findings import Finding, questions, winners
from aipo_lab.results.per_prompt import NO_VALUES, PromptValues
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection
from aipo_lab.results.verdicts import ALPHA, Outcome, settle


@dataclass(frozen=True)
class Ordering:
    """The contenders (None: there are none), the paper's claims about them, and what else is to be asked."""

    field: Field | None
    claims: tuple[Claim, ...] = ()
    findings: tuple[Finding, ...] = ()


def check_claims(
    rows: Sequence[ResultRow],
    selections: Mapping[str, Selection],
    metrics: BenchmarkMetrics,
    values: PromptValues = NO_VALUES,
    n_benchmarks: int = 1,
) -> Ordering:
    """Compare the objectives (or methods) in `selections`; nothing for a benchmark without a length.

    The paper's claims are about its objectives, so there are none where methods compete. `n_benchmarks`: how many
    benchmarks the report compares on.
    """
    field = get_field(rows, selections, metrics, values)
    if field is None:
        return Ordering(None)
    by_method = any("method" in row.hyperparameters for row in rows)
    alpha = ALPHA / n_benchmarks / 2
    drafts, asked, paired = [] if by_method else paper_claims(field), questions(field), winners(field)
    planned = [draft.statement for draft in drafts] + [one for question in asked for one in question.statements]
    outcomes = iter(settle(planned, alpha))
    claims = tuple(draft.with_outcome(next(outcomes)) for draft in drafts)
    findings = [question.with_outcomes(_take(outcomes, len(question.statements))) for question in asked]
    outcomes = iter(settle([one for question in paired for one in question.statements], alpha))
    findings += [question.with_outcomes(_take(outcomes, len(question.statements))) for question in paired]
    return Ordering(field, claims, tuple(findings))


def _take(outcomes: Iterator[Outcome], n: int) -> list[Outcome]:
    return [next(outcomes) for _ in range(n)]
