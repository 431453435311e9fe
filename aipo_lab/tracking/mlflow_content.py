"""What MLflow is told about a trial: names, parameters, tags, metrics with their times, inputs, and its description.

Standard errors and numbers of prompts have names of their own (`se/micro/win_rate`, `n/micro`), so that charts and
columns of the results are not doubled.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.figures.palette import KNOWN_STYLES, objective_name, setting_label
from aipo_lab.tracking.tracker import COMMIT_TAG, DatasetRef, MadeStage, TrialRecord

if TYPE_CHECKING:
    from mlflow.entities import Metric

NOTE_TAG, TABLES_TAG = "mlflow.note.content", "mlflow.loggedArtifacts"
TAG_CHARS, PARAM_CHARS = 5000, 6000
_DIGEST_CHARS = 36
_SCORING = "judge"
"""The stage that makes an iteration's results."""


def run_name(record: TrialRecord) -> str:
    """The objective and what distinguishes the trial, for people."""
    return " ".join(part for part in (objective_name(record.objective), setting_label(record.params)) if part)


def trial_params(record: TrialRecord) -> dict[str, str]:
    """Objective, hyperparameters and settings; what a trial has counts before what its sweep says of all."""
    params = {"objective": record.objective, **record.settings, **record.params}
    return {name: text[:PARAM_CHARS] for name, text in params.items()}


def trial_tags(record: TrialRecord) -> dict[str, str]:
    """State, reason, commit, colour of the objective, and the description."""
    tags = {"aipo_lab.state": record.state, "mlflow.source.name": "aipo-lab", "mlflow.source.type": "LOCAL"}
    if record.objective in KNOWN_STYLES:
        tags["mlflow.runColor"] = KNOWN_STYLES[record.objective].colour
    if record.commit:
        tags[COMMIT_TAG] = record.commit
    if record.reason:
        tags["aipo_lab.reason"] = record.reason[:TAG_CHARS]
    tags[NOTE_TAG] = _description(record)[:TAG_CHARS]
    return tags


def _description(record: TrialRecord) -> str:
    failed = f"**Failed:** {record.reason}\n\n" if record.reason else ""
    lines = [f"{failed}Trial `{record.trial}`.", "", "| iteration | model | folder |", "|---|---|---|"]
    folders = {stage.reference: stage.path for stage in record.stages}
    for row in record.rows:
        if row.checkpoint:
            lines.append(
                f"| {row.iteration} | `{row.checkpoint}` | `{folders.get(row.checkpoint, 'not in the store')}` |"
            )
    return "\n".join(lines if len(lines) > 4 else lines[:1])


def metric_name(name: str) -> str:
    """The name of a column of `results.csv` in MLflow: `micro/win_rate_se` is `se/micro/win_rate`."""
    if name.endswith("_se"):
        return f"se/{name.removesuffix('_se')}"
    return f"n/{name.removesuffix('/n')}" if name.endswith("/n") else name


def trial_metrics(record: TrialRecord) -> Iterator[Metric]:
    """Results by iteration, `train/<name>` by training step, at the times they were made; only finite values."""
    from mlflow.entities import Metric

    now_s = time.time()
    by_time = sorted(record.stages, key=lambda one: (one.stage == _SCORING, one.ended_s))  # the last one counts
    made_s = {stage.iteration: stage.ended_s for stage in by_time}
    for row in record.rows:
        for name in sorted(row.metrics, key=_rank):
            if math.isfinite(value := row.metrics[name]):
                yield Metric(metric_name(name), value, to_ms(made_s.get(row.iteration, now_s)), row.iteration)
    for point in record.curves:
        for name, value in point.values.items():
            if math.isfinite(value):
                time_s = now_s if point.time_s is None else point.time_s
                yield Metric(f"train/{name}", value, to_ms(time_s), point.step)
    yield from _work_metrics(record.stages, to_ms(now_s))


def _rank(name: str) -> tuple[bool, bool]:
    """What comes first: the UI opens a comparison on the first metric that all runs have."""
    benchmark = name.split("/")[0]
    leads = benchmark in BENCHMARK_METRICS and BENCHMARK_METRICS[benchmark].win_rate == name
    return not leads, metric_name(name) != name


def _work_metrics(stages: Sequence[MadeStage], now_ms: int) -> Iterator[Metric]:
    from mlflow.entities import Metric

    if stages:
        yield Metric("time/stages_s", sum(one.ended_s - one.started_s for one in stages), now_ms, 0)


def trial_span_s(record: TrialRecord) -> tuple[float | None, float | None]:
    """When the trial's own work began (its first training: what comes before is shared) and ended."""
    own = [stage for stage in record.stages if stage.stage == "train"]
    started_s = min((stage.started_s for stage in own), default=None)
    return started_s, max((stage.ended_s for stage in record.stages), default=None)


def to_ms(time_s: float) -> int:
    """Seconds since 1970 as MLflow counts them."""
    return int(time_s * 1000)


def to_read(value: float) -> float:
    """A number of a table, to four digits: MLflow shows all that it is given. The metrics by step are whole."""
    return float(f"{value:.4g}")


def stage_table(stages: Iterable[MadeStage]) -> list[dict[str, str | float | None]]:
    """The stages a trial is made of, as rows: where each artifact lies and when it was made."""
    return [
        {
            "iteration": one.iteration,
            "stage": one.stage,
            "artifact": one.reference,
            "folder": one.path,
            "started": _iso(one.started_s),
            "seconds": round(one.ended_s - one.started_s, 3),
        }
        for one in stages
    ]


def _iso(time_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))


def table_json(rows: Sequence[Mapping[str, str | float | None]]) -> str:
    """A table as MLflow's own `log_table` writes it; written whole, it does not grow when logged again."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return json.dumps({"columns": columns, "data": [[row.get(name) for name in columns] for row in rows]})


def dataset_inputs(datasets: Iterable[DatasetRef]) -> list[Any]:
    """Datasets as inputs of a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            Dataset(
                data.name,
                data.digest[:_DIGEST_CHARS],
                source_type="local",
                source=json.dumps({"uri": data.source}),
            ),
            [InputTag("mlflow.data.context", data.context)],
        )
        for data in datasets
    ]
