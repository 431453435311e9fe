"""The command line: parse, call, print. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from aipo_lab import __version__
from aipo_lab.core.errors import MissingDependency, UserError

if TYPE_CHECKING:
    from aipo_lab.console.running import RunOutcome
    from aipo_lab.sweeps.sweep import Sweep

EXIT_FAILED_TRIALS = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a full disk or one that cannot be written to, wherever they come up."""
RUNS = Path("runs")
DEFAULT_STORE = RUNS / "store"

settings_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting of the recipe, e.g. --set train.batch_size=16. Repeatable.",
)
store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_STORE,
    show_default=True,
    help="Folder of the artifacts, shared by sweeps.",
)
saved_store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the artifacts.  [default: where the sweep says]",
)
from_option = click.option(
    "--from",
    "sweep_folder",
    type=click.Path(path_type=Path),
    help="Output folder of the sweep that TRIAL is of.  [default: the newest in runs/]",
)
out_option = click.option("--out", type=click.Path(path_type=Path), help="Output folder.  [default: runs/<name>]")
profile_option = click.option("--profile", help="Profile to use instead of the sweep file's.")
executor_option = click.option(
    "--executor", default="inline", show_default=True, help="Where stages run: inline, or a plug-in's."
)
tracker_option = click.option(
    "--tracker", default="mlflow", show_default=True, help="What logs the sweep: mlflow, none, or a plug-in's."
)
tracking_uri_option = click.option(
    "--tracking-uri",
    metavar="URI",
    help="MLflow server or database to log to.  [default: MLFLOW_TRACKING_URI, else mlflow.db in the output folder]",
)
max_cost_option = click.option(
    "--max-cost",
    "max_cost_usd",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Most that judges may cost in this session; the run stops there and can be resumed.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
sweep_argument = click.argument("file", type=click.Path(path_type=Path))
folder_argument = click.argument("folder", type=click.Path(path_type=Path), required=False)


class _Group(click.Group):
    """Turns the errors a person can act on into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, MissingDependency) as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            click.echo(
                f"error: {error}; nothing finished is lost. Make room there (or choose other folders with --out and "
                "--store) and run the same command again",
                err=True,
            )
            ctx.exit(EXIT_FAILED_TRIALS)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aipo-lab")
def main() -> None:
    """A laboratory for iterative preference optimisation of language models."""


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
    _log_to(tracking_uri)
    _run(trials, out, store, executor, tracker, max_cost_usd)


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
    _log_to(tracking_uri)
    _run(trial, out, store, executor, tracker, max_cost_usd)


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
        trials, found = graphs_of_folder(_folder(sweep_folder), store)
    show_why(what, trials, found, as_json)


@main.command()
@click.argument("row", metavar="results.csv:LINE|TRIAL@ITERATION")
@from_option
@saved_store_option
@json_option
def lineage(row: str, sweep_folder: Path | None, store: Path | None, as_json: bool) -> None:
    """List what a number was made from: every artifact behind a line of results.csv (1 is its header)."""
    from aipo_lab.console.lineage_view import show_lineage

    show_lineage(row, None if ".csv:" in row else _folder(sweep_folder), store, as_json)


@main.command()
@folder_argument
@saved_store_option
def status(folder: Path | None, store: Path | None) -> None:
    """Show the progress and results of a sweep's output FOLDER (default: the newest in runs/)."""
    from aipo_lab.console.status_view import show_status

    sys.exit(EXIT_FAILED_TRIALS if show_status(_folder(folder), store) else 0)


@main.command()
@folder_argument
@saved_store_option
def report(folder: Path | None, store: Path | None) -> None:
    """Rebuild results.csv, figures and the HTML report of a sweep's output FOLDER from the store."""
    from aipo_lab.console.report_view import rebuild_report

    rebuild_report(_folder(folder), store)


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
        make_figure(name, _folder(folder), store, Look(style, width, formats or FORMATS), out)


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
    _log_to(tracking_uri)
    whole = track_sweep(_folder(folder), store, tracker, program(), register_model, upload_model)
    sys.exit(0 if whole else EXIT_FAILED_TRIALS)


@main.command()
@folder_argument
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
def ui(folder: Path | None, port: int) -> None:
    """Open the MLflow UI on the database of a sweep's output FOLDER."""
    from aipo_lab.console.pages import serve_ui

    serve_ui(_folder(folder), port)


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
    _exit(run_evaluation(config, out, RUNS, store, max_cost_usd, as_json, program()))


@main.command()
@folder_argument
@saved_store_option
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Port on 127.0.0.1.")
@click.option("--open/--no-open", "open_browser", default=True, help="Open it in the browser.  [default: open]")
def browse(folder: Path | None, store: Path | None, port: int, open_browser: bool) -> None:
    """Look at answers side by side, of a sweep's or an evaluation's output FOLDER (default: the newest sweep's)."""
    from aipo_lab.console.pages import browse

    browse(_folder(folder), store, port, open_browser)


@main.command()
@click.argument("point", metavar="TRIAL@ITERATION")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--pairs", is_flag=True, help="Export the pairs that the iteration made, not its model.")
@click.option("--force", is_flag=True, help="Replace DIR if it is not empty.")
@from_option
@saved_store_option
def export(point: str, target: Path, pairs: bool, force: bool, sweep_folder: Path | None, store: Path | None) -> None:
    """Write a model of a sweep as a Hugging Face folder DIR, or with --pairs an iteration's preference pairs.

    ITERATION is 0 (the base model) to the last one, or `last`.
    """
    from aipo_lab.console.export_view import export_point

    export_point(point, target, _folder(sweep_folder), store, pairs, force, program())


@main.command()
@click.argument("models", metavar="MODEL [MODEL2]", nargs=-1, required=True)
@click.option("--prompt", metavar="TEXT", help="Answer this and end; - takes all of standard input.")
@click.option("--system", metavar="TEXT", help="A system message before the conversation.")
@click.option("--temperature", type=click.FloatRange(0, 10), default=0.7, show_default=True, help="0: the likeliest.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True)
@click.option("--top-k", type=click.IntRange(0), default=0, show_default=True, help="0: all tokens.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=512, show_default=True, help="Cap on an answer.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--chat-template", metavar="NAME|FILE", help="chatml, plain or a Jinja file, used instead of its own.")
@click.option("--device", default="cpu", show_default=True, help="torch device: cpu, cuda, cuda:1, …")
@click.option("--dtype", type=click.Choice(("float32", "bfloat16", "float16")), default="float32", show_default=True)
@from_option
@saved_store_option
def chat(
    models: tuple[str, ...],
    prompt: str | None,
    system: str | None,
    chat_template: str | None,
    sweep_folder: Path | None,
    store: Path | None,
    **options: Any,
) -> None:
    """Talk to a MODEL, or to two side by side: a folder, an asset, a hub id, or TRIAL@ITERATION of a sweep."""
    from aipo_lab.console.chat_models import find_chat_models
    from aipo_lab.console.chat_view import chat_options, hold_conversation

    found = find_chat_models(models, chat_template, lambda: _folder(sweep_folder), store)
    hold_conversation(found, chat_options(system=system, **options), prompt)


@main.command()
@store_option
def doctor(store: Path) -> None:
    """Check what works on this machine."""
    from aipo_lab.console.doctor import examine, show

    sys.exit(0 if show(examine(store)) else EXIT_FAILED_TRIALS)


@main.command()
def plugins() -> None:
    """List what is registered: objectives, engines, rankers, … of this package and of others, with versions."""
    from aipo_lab.console.plugins_view import show_plugins

    sys.exit(EXIT_FAILED_TRIALS if show_plugins() else 0)


@main.group()
def assets() -> None:
    """Data files and models with pinned hashes."""


@assets.command("list")
def assets_list() -> None:
    """List the assets and where they are."""
    from aipo_lab.console.assets_view import show_assets

    show_assets()


@assets.command("fetch")
@click.argument("name")
def assets_fetch(name: str) -> None:
    """Obtain the asset NAME and check its hash."""
    from aipo_lab.assets.library import fetch

    click.echo(f"{name}: {fetch(name, lambda text: click.echo(f'  {text}'))}")


@assets.command("add")
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def assets_add(name: str, folder: Path) -> None:
    """Take the asset NAME from official files below FOLDER, whatever they are called there; checks their hashes."""
    from aipo_lab.assets.adding import add

    click.echo(f"{name}: {add(name, folder, lambda text: click.echo(f'  {text}'))}")


@main.group("store")
def store_group() -> None:
    """The folder of the artifacts: upkeep."""


@store_group.command("verify")
@store_option
@click.option("--set-aside", is_flag=True, help="Move what is damaged aside, so that the next run makes it again.")
def store_verify(store: Path, set_aside: bool) -> None:
    """Check every artifact and every stored judge reply against its hash. Exit code 1 when something is damaged."""
    from aipo_lab.console.store_view import verify_store

    sys.exit(EXIT_FAILED_TRIALS if verify_store(store, set_aside) else 0)


@main.group()
def score() -> None:
    """Score existing official judgment files: no network, no keys."""


existing_path = click.Path(exists=True, path_type=Path)


@score.command("alpaca-eval")
@click.option("--annotations", type=existing_path, required=True, help="annotations.json of the package alpaca-eval.")
@click.option("--outputs", type=existing_path, help="The model's outputs (json, csv or tsv), for its lengths.")
@json_option
def score_alpaca_eval(annotations: Path, outputs: Path | None, as_json: bool) -> None:
    """AlpacaEval 2: win rates and length from an annotation file."""
    from aipo_lab.evaluation.scoring import alpaca_eval, show

    show([alpaca_eval(annotations, outputs)], as_json)


@score.command("arena-hard")
@click.option("--judgments", type=existing_path, required=True, help="A judgment file, v0.1 or v2, or a folder.")
@click.option("--answers", type=existing_path, help="An answer file or a folder of them, for lengths.")
@json_option
def score_arena_hard(judgments: Path, answers: Path | None, as_json: bool) -> None:
    """Arena-Hard: win rates against the baseline with their intervals, for every model."""
    from aipo_lab.evaluation.scoring import arena_hard, show

    show(arena_hard(judgments, answers), as_json)


@score.command("mt-bench")
@click.option("--judgments", type=existing_path, required=True, help="A file <judge>_single.jsonl.")
@click.option("--model", help="Only this model of the file.")
@json_option
def score_mt_bench(judgments: Path, model: str | None, as_json: bool) -> None:
    """MT-Bench: scores overall, by turn and by category, for every model."""
    from aipo_lab.evaluation.scoring import mt_bench, show

    show(mt_bench(judgments, model), as_json)


responses_option = click.option(
    "--responses", type=existing_path, required=True, help="JSON lines with the keys prompt and response."
)


@score.command("ifeval")
@responses_option
@json_option
def score_ifeval(responses: Path, as_json: bool) -> None:
    """IFEval: prompts and instructions followed, strictly and loosely; no judge."""
    from aipo_lab.evaluation.scoring import instruction_following, show

    show([instruction_following("ifeval", responses)], as_json)


@score.command("ifbench")
@responses_option
@json_option
def score_ifbench(responses: Path, as_json: bool) -> None:
    """IFBench: prompts and instructions followed, strictly and loosely; no judge."""
    from aipo_lab.evaluation.scoring import instruction_following, show

    show([instruction_following("ifbench", responses)], as_json)


def _log_to(uri: str | None) -> None:
    """Let what this program logs go to `uri`; nothing without one."""
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri


def _run(sweep: Sweep, out: Path | None, store: Path, executor: str, tracker: str, max_cost_usd: float | None) -> None:
    from aipo_lab.console.sweep_view import run_sweep

    _exit(run_sweep(sweep, out, RUNS, store, executor, program(), max_cost_usd, tracker))


def _exit(outcome: RunOutcome) -> NoReturn:
    if outcome.interrupted:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_FAILED_TRIALS if outcome.failures or outcome.unwritten else 0)


def program() -> str:
    """How the person calls this program: by name where the shell finds it, else by path."""
    import shutil

    called = Path(sys.argv[0])
    if shutil.which("aipo-lab") is not None or called.name != "aipo-lab":
        return "aipo-lab"
    return str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)


def _folder(folder: Path | None) -> Path:
    """The given output folder, or the one a sweep last wrote to."""
    if folder is not None:
        return folder
    found = sorted(RUNS.glob("*/sweep.yaml"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError("there is no sweep in runs/; run one, or give the output folder of one")
    return found[-1].parent
