"""What `aipo-lab score` shows: the scores in existing official judgment files, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aipo_lab.benchmarks.length_control import Estimate


@dataclass(frozen=True)
class ModelScores:
    """One model's scores by metric name (with the benchmark's prefix), and what one must know to read them."""

    model: str
    scores: Mapping[str, Estimate]
    notes: Sequence[str]


def alpaca_eval(annotations: Path, outputs: Path | None) -> ModelScores:
    """See `score_alpaca_eval`."""
    from aipo_lab.benchmarks.alpaca_eval.scoring import score_alpaca_eval

    judged = score_alpaca_eval(annotations, outputs)
    return ModelScores(judged.model, _prefixed("alpaca_eval", judged.scores), judged.notes)


def arena_hard(judgments: Path, answers: Path | None) -> list[ModelScores]:
    """See `score_arena_hard`."""
    from aipo_lab.benchmarks.arena_hard.scoring import score_arena_hard

    made = []
    for model, file in score_arena_hard(judgments, answers).items():
        notes = [
            f"rules of {file.version}",
            f"the interval covers {file.interval_percent:g} %: a bootstrap over this model's questions alone",
            *_counts(file.unjudged, "games", file.duplicates),
            *file.notes,
        ]
        made.append(ModelScores(model, _prefixed("arena_hard", file.scores), notes))
    return made


def mt_bench(judgments: Path, model: str | None) -> list[ModelScores]:
    """See `score_mt_bench`."""
    from aipo_lab.benchmarks.mt_bench.judgments import score_mt_bench

    made = []
    for name, file in score_mt_bench(judgments, model).items():
        notes = _counts(file.unjudged, "turns", file.duplicates)
        if file.contradictions:
            notes.append(
                f"{file.contradictions} rows have a score that is not the rating in their text; the score counts"
            )
        if file.outside_scale:
            notes.append(f"{file.outside_scale} ratings are outside 1-10 and count as they are")
        notes += file.notes
        made.append(ModelScores(name, _prefixed("mt_bench", file.scores), notes))
    return made


def instruction_following(name: Literal["ifeval", "ifbench"], responses: Path) -> ModelScores:
    """See `score_instruction_following`."""
    from aipo_lab.benchmarks.instruction_following.scoring import score_instruction_following

    scored = score_instruction_following(name, responses)
    return ModelScores(responses.stem, _prefixed(name, scored.scores), scored.notes)


def show(models: Sequence[ModelScores], as_json: bool) -> None:
    """Print a table per model; or one JSON object: metrics of the model, or of each model by name if there are several.

    Several models are those of a file that holds several; standard errors are under `<metric>_se`.
    """
    if as_json:
        objects = {one.model: _flat(one) for one in models}
        print(json.dumps(objects if len(objects) > 1 else next(iter(objects.values())), indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for one in models:
        table = Table("metric", *("value", "standard error", "n"), title=one.model, title_justify="left")
        for name, estimate in one.scores.items():
            se = "" if estimate.se is None else f"{estimate.se:.3f}"
            table.add_row(name, f"{estimate.value:.3f}", se, str(estimate.n))
        console.print(table)
        for note in one.notes:
            console.print(f"- {note}", markup=False, highlight=False)


def _flat(one: ModelScores) -> dict[str, Any]:
    values: dict[str, Any] = {"model": one.model}
    for name, estimate in one.scores.items():
        values[name] = estimate.value
        if estimate.se is not None:
            values[f"{name}_se"] = estimate.se
    return values | {"notes": list(one.notes)}


def _prefixed(benchmark: str, scores: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {f"{benchmark}/{name}": estimate for name, estimate in scores.items()}


def _counts(unjudged: Mapping[str, str], what: str, duplicates: int) -> list[str]:
    notes = []
    if unjudged:
        where, reason = next(iter(unjudged.items()))
        notes.append(f"{len(unjudged)} {what} have no verdict and count for nothing, the first: {where} ({reason})")
    if duplicates:
        were = "row was" if duplicates == 1 else "rows were"
        notes.append(f"{duplicates} {were} replaced by a later one of the same question")
    return notes
