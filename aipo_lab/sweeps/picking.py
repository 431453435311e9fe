"""What a sweep's rule picks on each of its benchmarks, and the file that says so, `picks.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.results.certainty import Certainty, Picks, get_picks
from aipo_lab.results.halves import with_halves
from aipo_lab.results.per_prompt import PromptValues
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule
from aipo_lab.results.selection import Selection


@dataclass(frozen=True)
class SweepPicks:
    """The picks by benchmark, and the rows they were made from, with the halves of the prompts where there are any."""

    rows: list[ResultRow]
    by_benchmark: dict[str, Picks]

    def selections(self) -> dict[str, dict[str, Selection]]:
        """By benchmark and objective or method."""
        return {name: picks.by_contender for name, picks in self.by_benchmark.items()}


def pick_all(
    rows: Sequence[ResultRow], benchmarks: Sequence[str], rule: SelectionRule, values: PromptValues, split: bool
) -> SweepPicks:
    """The picks on all `benchmarks`; with `split` each on one half of its prompts where that is possible."""
    made = halved_rows(rows, benchmarks, values) if split else list(rows)
    return SweepPicks(made, {name: get_picks(made, rule, BENCHMARK_METRICS[name], values) for name in benchmarks})


def halved_rows(rows: Sequence[ResultRow], benchmarks: Sequence[str], values: PromptValues) -> list[ResultRow]:
    """The rows with the halves of each benchmark's prompts, where that is possible (`with_halves`)."""
    halved = list(rows)
    for name in benchmarks:
        halved = with_halves(halved, BENCHMARK_METRICS[name], values)
    return halved


def picks_record(picks: SweepPicks) -> dict[str, Any]:
    """The picks as JSON: shares from 0 to 1, metrics in their own units; points as trial and iteration."""
    return {
        name: {
            "overall": None if one.overall is None else _selection(one.overall),
            "by_objective": {objective: _selection(pick) for objective, pick in one.by_contender.items()},
        }
        for name, one in picks.by_benchmark.items()
    }


def _selection(selection: Selection) -> dict[str, Any]:
    best = selection.best
    return {
        "rule": str(selection.rule),
        **_point(best),
        "seeds": [row.trial for row in selection.seeds],
        "metric": selection.metric,
        "picked_on": best.picked_on if selection.halved else best.metrics,
        "reported": selection.reported.metrics,
        "reported_on_other_prompts": selection.halved,
        "certainty": None if selection.certainty is None else _certainty(selection.certainty),
    }


def _certainty(certainty: Certainty) -> dict[str, Any]:
    return asdict(certainty) | {
        "inseparable": [_point(row) for row in certainty.inseparable],
        "others": {rule: _point(row) for rule, row in certainty.others},
        "contenders": dict(certainty.contenders),
    }


def _point(row: ResultRow) -> dict[str, Any]:
    return {"trial": row.trial, "iteration": row.iteration}
