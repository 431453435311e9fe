"""What `aipo-lab track` does and shows: a sweep that has run is logged, or what is missing of it, from its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aipo_lab.console.running import command_text, say
from aipo_lab.core.errors import UserError
from aipo_lab.core.locks import lock_within
from aipo_lab.results.rows import ResultRow
from aipo_lab.stages.stored import find_stored
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.headline import get_headline
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.tracked import parameter_names, trial_record, with_absent, work_span
from aipo_lab.tracking.guards import SafeTracker
from aipo_lab.tracking.tracker import COMMIT_TAG, CheckpointRef, make_tracker


def track_sweep(
    path: Path,
    store_root: Path | None,
    tracker: str,
    program: str,
    model_name: str | None = None,
    upload_model: bool = False,
) -> bool:
    """Log a sweep's results with a tracker; what is logged already stays. Returns whether all of it is logged.

    `model_name`: register the picked trial's model under it, by reference, or with its files where `upload_model`.
    Raises `UserError` while another process runs the sweep (it logs it), or where nothing has a result yet.
    """
    console = Console()
    study = Study.reopen(SweepFolder(path), store_root)
    safe = SafeTracker(make_tracker(tracker, path))
    with lock_within(study.folder.lock, 0.0) as alone:
        if not alone:
            raise UserError(f"another process runs the sweep of {path} and logs it; wait until it has ended")
        rows = study.rows()
        n_logged, n_left = _log(console, study, rows, safe, program, model_name, upload_model)
    for warning in safe.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    if not safe.warnings:
        later = f"; {n_left} have no result yet" if n_left else ""
        say(console, f"logged: {n_logged} of {n_logged + n_left} trials{later}")
        say(console, f"MLflow UI: {command_text(program, 'ui', path)}")
    return not safe.warnings


def _log(
    console: Console,
    study: Study,
    rows: list[ResultRow],
    tracker: SafeTracker,
    program: str,
    model_name: str | None,
    upload_model: bool,
) -> tuple[int, int]:
    by_trial = {trial.name: [row for row in rows if row.trial == trial.name] for trial in study.sweep.trials}
    over = [
        trial
        for trial in study.sweep.trials
        if trial.name in study.failures or all(row.state == "complete" for row in by_trial[trial.name])
    ]
    if not over:
        raise UserError(f"no trial of {study.folder.path} has a result yet; run the sweep first")
    commit = study.folder.saved_commit()
    tags = {COMMIT_TAG: commit} | work_span(study.graph.trials.values(), study.store)
    tracker.start_sweep(study.summary.sweep_id, study.sweep.name, study.params(), tags)
    stored = find_stored(study.graph.nodes.values(), study.store)
    names = parameter_names(study.sweep.trials)
    with _bars(console) as bars:
        for trial in bars.track(over, description="logging trials"):
            graph, reason = study.graph.trials[trial.name], study.failures.get(trial.name, "")
            present = graph.nodes().keys() & stored
            record = trial_record(trial, graph, study.store, by_trial[trial.name], present, reason, commit)
            tracker.log_trial(with_absent(record, names))
    headline = get_headline(study, rows, program)
    tracker.log_headline(headline)
    if model_name is not None:
        tracker.register_model(model_name, _picked(study, rows, headline.tags), upload_model)
    state = "failed" if study.failures else "complete" if len(over) == len(study.sweep.trials) else "stopped"
    tracker.finish(study.folder.shown(), state)
    return len(over), len(study.sweep.trials) - len(over)


def _picked(study: Study, rows: list[ResultRow], tags: Mapping[str, str]) -> CheckpointRef:
    """The model of the sweep's pick; raises `UserError` where there is none, or it is no longer in the store."""
    if "best_trial" not in tags:
        raise UserError("there is no model to register: the sweep's rule picks none of its results")
    trial, iteration = tags["best_trial"], int(tags["best_iteration"])
    row = next(row for row in rows if row.trial == trial and row.iteration == iteration)
    node = study.graph.nodes.get(row.checkpoint)
    artifact = None if node is None else study.store.find(node.request.stage, node.request.key)
    if artifact is None or not (artifact.path / "model").is_dir():
        raise UserError(f"the model of {trial} at iteration {iteration} ({row.checkpoint}) is no longer in the store")
    return CheckpointRef(trial, iteration, row.checkpoint, artifact.file("model"))


def _bars(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
