"""Options and arguments that several commands take, with the places they default to."""

from __future__ import annotations

from pathlib import Path

import click

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
