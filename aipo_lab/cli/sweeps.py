"""Commands that plan and run sweeps, and that say how they stand and where their numbers come from."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aipo_lab.cli.group import EXIT_FAILED_TRIALS, given_or_newest, log_to, main, program, run_trials
from aipo_lab.cli.options import (
    DEFAULT_STORE,
    executor_option,
    folder_argument,
    from_option,
    json_option,
    max_cost_option,
    out_option,
    profile_option,
    saved_store_option,
    settings_option,
    store_option,
    sweep_argument,
    tracker_option,
    tracking_uri_option,
)
from aipo_lab.core.errors import UserError


@main.command()
@sweep_argument
@profile_option
@settings_option
@executor_option
@tracker_option
@tracking_uri_option
@out_option
@store_option
@max_cost_option
def sweep(
    file: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    executor: str,
    tracker: str,
    tracking_uri: str | None,
    out: Path | None,
    store: Path,
    max_cost_usd: float | None,
) -> None:
    """Run every trial of a sweep FILE, evaluate each iteration, log and draw. Run it again to resume."""
    from aipo_lab.core.overrides import parse_overrides
    from aipo_lab.sweeps.sweep import load_sweep

    trials = load_sweep(file, profile, parse_overrides(overrides), check=True)
    log_to(tracking_uri)
    run_trials(trials, out, store, executor, tracker, max_cost_usd)


@main.command()
@click.argument("recipe_or_profile")
@settings_option
@executor_option
@tracker_option
@tracking_uri_option
@out_option
@store_option
@max_cost_option
def run(
    recipe_or_profile: str,
    overrides: tuple[str, ...],
    executor: str,
    tracker: str,
    tracking_uri: str | None,
    out: Path | None,
    store: Path,
    max_cost_usd: float | None,
) -> None:
    """Run one trial: a profile (micro, laptop) or a recipe file."""
    from aipo_lab.core.overrides import parse_overrides
    from aipo_lab.sweeps.sweep import single_run

    trial = single_run(recipe_or_profile, parse_overrides(overrides), check=True)
    log_to(tracking_uri)
    run_trials(trial, out, store, executor, tracker, max_cost_usd)


@main.command()
@sweep_argument
@profile_option
@settings_option
@store_option
@click.option("--gpus", type=click.IntRange(min=1), help="Plan for so many GPUs.  [default: what the recipe uses]")
@click.option("--gpu", metavar="KIND", help="Kind of GPU: h100, h200 or a100.  [default: h100]")
@click.option("--diff", nargs=2, metavar="TRIAL TRIAL", help="Only say at which stage two trials part.")
def plan(
    file: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    store: Path,
    gpus: int | None,
    gpu: str | None,
    diff: tuple[str, str] | None,
) -> None:
    """Show what a sweep FILE would do, here or elsewhere: trials, stages, tokens, money, time. Also a recipe's."""
    from aipo_lab.console.plan_view import show_plan
    from aipo_lab.core.overrides import parse_overrides
    from aipo_lab.sweeps.sweep import load_plannable

    planned = load_plannable(file, profile, parse_overrides(overrides))
    if diff is not None:
        from aipo_lab.console.parting_view import show_parting

        show_parting(planned, *diff)
        return
    show_plan(planned, store, gpus, gpu)


@main.command()
@click.argument("what", metavar="TRIAL|STAGE|STAGE/KEY")
@click.option(
    "--file", type=click.Path(path_type=Path), help="A sweep file, recipe or profile, instead of an output folder."
)
@profile_option
@settings_option
@from_option
@saved_store_option
@json_option
def why(
    what: str,
    file: Path | None,
    profile: str | None,
    overrides: tuple[str, ...],
    sweep_folder: Path | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Say why a TRIAL (or TRIAL@ITERATION), the stages called STAGE, or STAGE/KEY would be computed.

    Of the newest sweep in runs/, of the output folder given with --from, or of a sweep --file with its --set.
    """
    from aipo_lab.console.why_view import graphs_of_file, graphs_of_folder, show_why
    from aipo_lab.core.overrides import parse_overrides

    if file is None and (profile is not None or overrides):
        raise UserError("--profile and --set change a sweep file; give it with --file")
    if file is not None:
        trials, found = graphs_of_file(file, profile, parse_overrides(overrides), store or DEFAULT_STORE)
    else:
        trials, found = graphs_of_folder(given_or_newest(sweep_folder), store)
    show_why(what, trials, found, as_json)


@main.command()
@click.argument("row", metavar="results.csv:LINE|TRIAL@ITERATION")
@from_option
@saved_store_option
@json_option
def lineage(row: str, sweep_folder: Path | None, store: Path | None, as_json: bool) -> None:
    """List what a number was made from: every artifact behind a line of results.csv (1 is its header)."""
    from aipo_lab.console.lineage_view import show_lineage

    show_lineage(row, None if ".csv:" in row else given_or_newest(sweep_folder), store, as_json)


@main.command()
@folder_argument
@saved_store_option
def status(folder: Path | None, store: Path | None) -> None:
    """Show the progress and results of a sweep's output FOLDER (default: the newest in runs/)."""
    from aipo_lab.console.status_view import show_status

    sys.exit(EXIT_FAILED_TRIALS if show_status(given_or_newest(folder), store) else 0)


@main.command()
@folder_argument
@saved_store_option
@tracker_option
@tracking_uri_option
@click.option("--register-model", metavar="NAME", help="Register the picked trial's model in MLflow, by reference.")
@click.option("--upload-model", is_flag=True, help="With --register-model: upload the model's files too.")
def track(
    folder: Path | None,
    store: Path | None,
    tracker: str,
    tracking_uri: str | None,
    register_model: str | None,
    upload_model: bool,
) -> None:
    """Log the sweep of an output FOLDER, or what is missing of it, from its results and the store."""
    from aipo_lab.console.track_view import track_sweep

    if upload_model and register_model is None:
        raise UserError("--upload-model needs --register-model NAME")
    log_to(tracking_uri)
    whole = track_sweep(given_or_newest(folder), store, tracker, program(), register_model, upload_model)
    sys.exit(0 if whole else EXIT_FAILED_TRIALS)
