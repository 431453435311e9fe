"""Commands that look at results: reports, figures, comparisons, pages, single models on benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from aipo_lab.cli.group import EXIT_FAILED_TRIALS, exit_as, given_or_newest, main, program
from aipo_lab.cli.options import (
    RUNS,
    folder_argument,
    json_option,
    max_cost_option,
    out_option,
    saved_store_option,
    settings_option,
    store_option,
)


@main.command()
@folder_argument
@saved_store_option
def report(folder: Path | None, store: Path | None) -> None:
    """Rebuild results.csv, figures and the HTML report of a sweep's output FOLDER from the store."""
    from aipo_lab.console.report_view import rebuild_report

    rebuild_report(given_or_newest(folder), store)


@main.command()
@click.argument("name", metavar="[NAME]", required=False)
@folder_argument
@saved_store_option
@click.option("--style", type=click.Choice(["paper", "slide"]), default="paper", show_default=True)
@click.option("--width", type=click.Choice(["column", "full"]), help="3.3 or 7 inches.  [default: the figure's own]")
@click.option("--format", "formats", type=click.Choice(["png", "pdf", "svg"]), multiple=True, help="[default: all]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the files.")
def figure(
    name: str | None,
    folder: Path | None,
    store: Path | None,
    style: Literal["paper", "slide"],
    width: Literal["column", "full"] | None,
    formats: tuple[Literal["png", "pdf", "svg"], ...],
    out: Path | None,
) -> None:
    """Make one figure or table of the paper from a sweep's output FOLDER; without a NAME, list what there is.

    NAME is 1 to 7, table1 to table6, or one of the list.
    """
    from aipo_lab.console.figure_view import list_figures, make_figure
    from aipo_lab.figures.style import FORMATS, Look

    if name is None:
        list_figures()
    else:
        make_figure(name, given_or_newest(folder), store, Look(style, width, formats or FORMATS), out)


@main.command()
@click.argument("folders", metavar="FOLDER FOLDER…", nargs=-1, required=True, type=click.Path(path_type=Path))
@saved_store_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the tables and figures.")
def compare(folders: tuple[Path, ...], store: Path | None, out: Path | None) -> None:
    """Set the output FOLDERs of sweeps beside each other: paired differences with intervals, recipes, one plot."""
    from aipo_lab.console.compare_view import show_comparison

    show_comparison(folders, store, out)


@main.command("lint")
@click.argument("pairs", type=click.Path(path_type=Path))
def lint_pairs(pairs: Path) -> None:
    """Say in words what to look at in a file of preference PAIRS: lengths, near-duplicates, ties, cut responses.

    Exit code 1 when a rule found something.
    """
    from aipo_lab.console.lint_view import lint_file

    sys.exit(EXIT_FAILED_TRIALS if lint_file(pairs) else 0)


@main.command()
@folder_argument
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
def ui(folder: Path | None, port: int) -> None:
    """Open the MLflow UI on the database of a sweep's output FOLDER."""
    from aipo_lab.console.pages import serve_ui

    serve_ui(given_or_newest(folder), port)


@main.command()
@folder_argument
@saved_store_option
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Port on 127.0.0.1.")
@click.option("--open/--no-open", "open_browser", default=True, help="Open it in the browser.  [default: open]")
def browse(folder: Path | None, store: Path | None, port: int, open_browser: bool) -> None:
    """Look at answers side by side, of a sweep's or an evaluation's output FOLDER (default: the newest sweep's)."""
    from aipo_lab.console.pages import browse

    browse(given_or_newest(folder), store, port, open_browser)


@main.command()
@click.option("--model", required=True, help="A model folder, asset, hub id, or a folder of official answer files.")
@click.option("--benchmarks", required=True, metavar="A,B", help="Of alpaca_eval, arena_hard, mt_bench.")
@click.option("--limit", type=click.IntRange(min=1), help="Questions of each benchmark.  [default: all]")
@click.option("--judge", help="The judge's model name; its server and key come from the environment.")
@settings_option
@out_option
@store_option
@max_cost_option
@json_option
def evaluate(
    model: str,
    benchmarks: str,
    limit: int | None,
    judge: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    store: Path,
    max_cost_usd: float | None,
    as_json: bool,
) -> None:
    """Evaluate one model, or a folder of its answers, on official benchmarks. Run it again to resume."""
    from aipo_lab.console.evaluation_view import run_evaluation
    from aipo_lab.evaluation.evaluation import evaluation_config

    config = evaluation_config(model, [name for name in benchmarks.split(",") if name], limit, judge, overrides)
    exit_as(run_evaluation(config, out, RUNS, store, max_cost_usd, as_json, program()))
