"""The HTML report of a sweep: one self-contained page made from results, figures and sampled responses.

`page/` holds its style sheet and scripts, Plotly's basic bundle among them (MIT licence, `page/plotly-LICENSE`).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.jsonl import write_text_atomically
from aipo_lab.figures.draw import figure_caption
from aipo_lab.figures.palette import setting_label
from aipo_lab.report.contender_tables import contender_table, difference_table, matched_tables
from aipo_lab.report.explorer import as_script, get_explorers
from aipo_lab.report.ordering import Ordering, check_claims
from aipo_lab.report.pick_text import pick_sentences
from aipo_lab.report.samples import Sample, group_samples
from aipo_lab.report.tables import (
    best_table,
    counts_table,
    describe,
    repeats_table,
    result_table,
    stage_table,
    warning_table,
)
from aipo_lab.report.verdict import verdict_sentences
from aipo_lab.results.per_prompt import NO_VALUES, PromptValues
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection


@dataclass(frozen=True)
class ReportData:
    """All that a report shows.

    `select` is the text of the selection rule, `selections` what it chose, by benchmark and objective, and `overall`
    what it chose among all, by benchmark.
    `failures` maps a trial to its reason, `stage_counts` a stage to its numbers of `computed`, `shared` and
    `reused` artifacts, `stage_seconds` to the seconds of work in all of them; `reproduce` are commands;
    `pipeline_counts` has one mapping per trial and iteration (instructions generated, malformed, pairs, dropped, …).
    `figures` maps the names of `draw_figures` to PNG files.
    `warnings` are the data linter's: rule, trial, iteration and text. A metric
    `<benchmark>/n` in the rows is shown as the number of prompts. `values` are the results prompt by prompt,
    `notes` sentences that a reader of a benchmark's numbers has to know.
    """

    name: str
    profile: str
    rows: list[ResultRow]
    benchmarks: list[str]
    select: str
    selections: dict[str, dict[str, Selection]]
    samples: list[Sample] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    stage_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    reproduce: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    configuration_yaml: str = ""
    pipeline_counts: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Path] = field(default_factory=dict)
    warnings: list[tuple[str, str, int, str]] = field(default_factory=list)
    overall: dict[str, Selection] = field(default_factory=dict)
    values: PromptValues = NO_VALUES
    notes: dict[str, list[str]] = field(default_factory=dict)


def build_report(data: ReportData, path: Path) -> Path:
    """Write the report to `path`, atomically, and return it. Everything in it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("aipo_lab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, environment.get_template("report.html.j2").render(_context(data)) + "\n")
    return path


def _context(data: ReportData) -> dict[str, Any]:
    settings = {row.trial: setting_label(row.hyperparameters) for row in data.rows}
    by_method = any("method" in row.hyperparameters for row in data.rows)
    benchmarks = [_benchmark(data, name) for name in data.benchmarks]
    explorers = get_explorers(data.rows, data.benchmarks, data.selections, data.samples)
    return {
        "name": data.name,
        "page": _page_files(),
        "explorer": Markup(as_script(explorers)) if explorers else "",
        "contenders_are": "method" if by_method else "objective",
        "summary": summary_sentences(data),
        "select": data.select,
        "verdict": [sentence for one in benchmarks for sentence in one["verdict"]],
        "benchmarks": benchmarks,
        "reproduce": data.reproduce,
        "other_figures": _figures(data, None),
        "failures": data.failures,
        "stages": stage_table(data.stage_counts, data.stage_seconds),
        "counts": counts_table(data.pipeline_counts),
        "warnings": warning_table(data.warnings),
        "results": result_table(data.rows, data.benchmarks),
        "samples": group_samples(data.samples, settings),
        "configuration": data.configuration_yaml,
    }


def _page_files() -> dict[str, Markup]:
    """The style sheet and the scripts; they are the package's own and stand in the page as they are."""
    names = {"style": "report.css", "tables": "tables.js", "explorer": "explorer.js", "plotly": "plotly-basic.min.js"}
    folder = Path(__file__).parent / "page"
    return {name: Markup((folder / file).read_text(encoding="utf-8")) for name, file in names.items()}


def _benchmark(data: ReportData, name: str) -> dict[str, Any]:
    metrics = BENCHMARK_METRICS[name]
    selections = data.selections.get(name, {})
    ordering = check_claims(data.rows, selections, metrics, data.values, len(data.benchmarks))
    overall = data.overall.get(name)
    sizes = {row.value(f"{name}/n") for row in data.rows} - {None}
    return {
        "name": name,
        "notes": data.notes.get(name, []),
        "figures": _figures(data, name),
        "overall": None if overall is None else describe(overall, metrics),
        "certainty": [] if overall is None else pick_sentences(overall, metrics),
        "halved": any(selection.halved for selection in selections.values()),
        "n_prompts": f"{sizes.pop():.0f}" if len(sizes) == 1 else "",
        "repeats": repeats_table(data.rows, metrics, data.values),
        "best": best_table(data.rows, selections, metrics),
        "claims": ordering.claims,
        "findings": ordering.findings,
        "verdict": verdict_sentences(ordering, name, len(data.benchmarks) > 1),
        **_compared(ordering),
    }


def _compared(ordering: Ordering) -> dict[str, Any]:
    """The tables of contenders."""
    field = ordering.field
    if field is None:
        return {"contenders": None, "n_seeds": 0, "matched": [], "differences": None}
    return {
        "contenders": contender_table(field),
        "n_seeds": field.n_seeds,
        "matched": matched_tables(field),
        "differences": difference_table(field) if len(field.contenders) > 1 else None,
    }


def _figures(data: ReportData, benchmark: str | None) -> list[dict[str, str]]:
    """The figures of one benchmark, or those of none of the report's benchmarks."""
    owner = {name: next((b for b in data.benchmarks if name.endswith(f"_{b}")), None) for name in data.figures}
    return [
        {"name": name, "caption": figure_caption(name), "uri": _data_uri(path)}
        for name, path in data.figures.items()
        if owner[name] == benchmark
    ]


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def summary_sentences(data: ReportData) -> list[str]:
    """What ran, in a few sentences: trials, iterations, time, stages."""
    states = trial_states(data.rows, data.failures)
    counted = [
        f"{list(states.values()).count(state)} {state}"
        for state in ("complete", "failed", "pending")
        if state in states.values()
    ]
    iterations = max((row.iteration for row in data.rows if row.state == "complete"), default=0)
    sentences = [
        f"Profile {data.profile}: {_count(len(states), 'trial')}"
        + (f" ({', '.join(counted)})" if counted else "")
        + f", up to {_count(iterations, 'iteration')} after the base model, in {_duration(data.duration_s)}."
    ]
    totals = {
        how: sum(counts.get(how, 0) for counts in data.stage_counts.values())
        for how in ("computed", "shared", "reused")
    }
    if any(totals.values()):
        sentences.append(
            f"{_count(totals['computed'], 'stage')} computed, {totals['shared']} shared between trials, "
            f"{totals['reused']} reused from the store."
        )
    sentences.append(f"Best trials are chosen by the rule {data.select}.")
    return sentences


def trial_states(rows: Sequence[ResultRow], failures: dict[str, str]) -> dict[str, str]:
    """`complete`, `failed` or `pending` by trial, in order of appearance."""
    states: dict[str, str] = {}
    for row in rows:
        worst = {states.get(row.trial, "complete"), row.state}
        states[row.trial] = next(state for state in ("failed", "pending", "complete") if state in worst)
    return states | dict.fromkeys(failures, "failed")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
