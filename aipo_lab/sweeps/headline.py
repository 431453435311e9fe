"""What a sweep came to, for a tracker: best trial, numbers of the whole, tables, and a description to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import objective_name, setting_label, varying_hyperparameters
from aipo_lab.results.hypervolume import LENGTH_FACTOR, hypervolume
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import SelectionRule, parse_rule
from aipo_lab.results.selection import select_per_objective
from aipo_lab.sweeps.folder import git_commit
from aipo_lab.sweeps.picking import SweepPicks
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.tracked import find_prompts
from aipo_lab.tracking.tracker import COMMIT_TAG, Headline, TrialBest


def get_headline(study: Study, rows: list[ResultRow], program: str) -> Headline:
    """The headline of a sweep with these results; `program` is how to call this one, for the commands it shows."""
    names = study.benchmarks(rows)
    picks = study.picks(rows)
    trials = _trials(picks, parse_rule(study.sweep.select), names)
    return Headline(
        metrics=_metrics(study, rows, picks, names),
        tags=_tags(trials),
        description=_description(study, rows, trials, program),
        tables=_tables(rows, trials),
        trials=trials,
        shown=[name for benchmark in names for name in _shown(BENCHMARK_METRICS[benchmark])],
        varied=varying_hyperparameters(rows),
        datasets=find_prompts(study.graph.trials.values(), study.store),
    )


def _shown(metrics: BenchmarkMetrics) -> list[str]:
    """The metrics to look at first, the plots' own leading."""
    names = (metrics.win_rate, metrics.lc_win_rate, metrics.true_win_rate, metrics.length)
    return [name for name in names if name is not None]


def _trials(picks: SweepPicks, rule: SelectionRule, benchmarks: Sequence[str]) -> dict[str, TrialBest]:
    """Each trial's best iteration on the first benchmark, whose picks are those of the sweep."""
    if not benchmarks:
        return {}
    first = picks.by_benchmark[benchmarks[0]]
    picked = {row.trial: "objective" for one in first.by_contender.values() for row in one.seeds}  # all repeats
    picked |= {} if first.overall is None else {row.trial: "sweep" for row in first.overall.seeds}
    alone = [replace(row, hyperparameters={**row.hyperparameters, "method": row.trial}) for row in picks.rows]
    metrics = BENCHMARK_METRICS[benchmarks[0]]
    chosen = select_per_objective(alone, rule, metrics)  # among the points of one trial, by bounds of all
    own = {row.trial for row in picks.rows}
    return {
        name: TrialBest(one.best.iteration, _results(one.best), picked.get(name, ""))
        for name, one in chosen.items()
        if name in own
    }


def _results(row: ResultRow) -> dict[str, float]:
    """The row's metrics on benchmarks, without errors and numbers of prompts."""
    return {
        name: value
        for name, value in row.metrics.items()
        if name.split("/")[0] in BENCHMARK_METRICS and not name.endswith(("_se", "/n"))
    }


def _metrics(study: Study, rows: list[ResultRow], picks: SweepPicks, benchmarks: Sequence[str]) -> dict[str, float]:
    ended = {row.trial: row.state for row in sorted(rows, key=lambda row: row.iteration)}
    metrics: dict[str, float] = {
        "trials/total": len(study.sweep.trials),
        "trials/complete": sum(state == "complete" for state in ended.values()),
        "trials/failed": len(study.failures),
        "time/computing_s": study.summary.duration_s,
    }
    for benchmark in benchmarks:
        found = picks.by_benchmark[benchmark].overall
        if found is not None:
            metrics |= {
                f"best/{name}": v for name, v in _results(found.best).items() if name.startswith(f"{benchmark}/")
            }
            metrics |= {f"best/{benchmark}/iteration": found.best.iteration}
        metrics |= _hypervolume(rows, benchmark)
    return metrics


def _hypervolume(rows: list[ResultRow], benchmark: str) -> dict[str, float]:
    metrics = BENCHMARK_METRICS[benchmark]
    if metrics.length is None or not metrics.win_rate.endswith("win_rate"):
        return {}
    points = [(row.iteration, row.value(metrics.length), row.value(metrics.win_rate)) for row in rows]
    complete = [(t, length, win) for t, length, win in points if length is not None and win is not None]
    base = [(length, win) for t, length, win in complete if t == 0]
    if not base or not base[0][0] > 0 or base[0][1] >= 100:
        return {}
    return {f"hypervolume/{benchmark}": hypervolume([(length, win) for t, length, win in complete if t > 0], base[0])}


def _tags(trials: Mapping[str, TrialBest]) -> dict[str, str]:
    best = next(((name, one) for name, one in trials.items() if one.pick == "sweep"), None)
    commit = {COMMIT_TAG: commit} if (commit := git_commit()) else {}
    return commit | ({} if best is None else {"best_trial": best[0], "best_iteration": str(best[1].iteration)})


def _tables(rows: list[ResultRow], trials: Mapping[str, TrialBest]) -> dict[str, list[dict[str, str | float | None]]]:
    """`results`: all of `results.csv`; `best_trials`: each trial at its best iteration."""
    best = [row for row in rows if row.trial in trials and row.iteration == trials[row.trial].iteration]
    return {
        "results": [_table_row(row) for row in rows],
        "best_trials": [{"selected": trials[row.trial].pick or "no", **_table_row(row)} for row in best],
    }


def _table_row(row: ResultRow) -> dict[str, str | float | None]:
    fixed: dict[str, str | float | None] = {"trial": row.trial, "objective": row.objective}
    fixed |= {"iteration": row.iteration, "state": row.state}
    return {**fixed, **row.hyperparameters, **dict(sorted(row.metrics.items())), "checkpoint": row.checkpoint}


def _description(study: Study, rows: list[ResultRow], trials: Mapping[str, TrialBest], program: str) -> str:
    """Markdown: what the sweep is, what came out of it, how to make it again."""
    sweep, recipe = study.sweep, study.sweep.trials[0].recipe
    objectives = ", ".join(objective_name(name) for name in dict.fromkeys(row.objective for row in rows))
    lines = [
        sweep.description.strip(),
        f"{len(sweep.trials)} trials of {objectives}: {recipe.iterations} iterations of profile `{sweep.profile}` on "
        f"`{recipe.model.source}`, chosen by `{sweep.select}`. {len(study.failures)} failed.",
        _best_text(rows, trials),
        "Each trial is a child run: `best/…` are its numbers at its best iteration, `se/…` standard errors, `n/…` "
        "numbers of prompts, steps are iterations (of `train/…`, training steps). The hypervolume is the share of the "
        f"plane from the base model's length to {LENGTH_FACTOR:g} times it, and from its win rate to 100 %, that the "
        "trained points dominate.",
        f"All settings are in `{study.folder.configuration.resolve()}`{_source_text(sweep.source)}. To log here what "
        f"is missing:\n\n```\n{program} track {study.folder.path.resolve()}\n```",
        f"Store: `{study.store.root.resolve()}`. Commit: `{git_commit() or 'unknown'}`.",
    ]
    return "\n\n".join(line for line in lines if line)


def _source_text(source: str) -> str:
    return f", from the {source}" if source else ""


def _best_text(rows: list[ResultRow], trials: Mapping[str, TrialBest]) -> str:
    name = next((name for name, one in trials.items() if one.pick == "sweep"), None)
    if name is None:
        return ""
    row = next(row for row in rows if row.trial == name and row.iteration == trials[name].iteration)
    label = f"{objective_name(row.objective)} {setting_label(row.hyperparameters)}".strip()
    return (
        f"**Picked:** {label} at iteration {row.iteration} (trial `{name}`). The report among the artifacts says what "
        "it cannot be told from."
    )
