"""The command itself: how errors and interruptions become messages and exit codes, and what all its commands share."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from aipo_lab import __version__
from aipo_lab.cli.options import RUNS
from aipo_lab.core.errors import MissingDependency, UserError

if TYPE_CHECKING:
    from aipo_lab.console.running import RunOutcome
    from aipo_lab.sweeps.sweep import Sweep

EXIT_FAILED_TRIALS = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a full disk or one that cannot be written to, wherever they come up."""


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


def log_to(uri: str | None) -> None:
    """Let what this program logs go to `uri`; nothing without one."""
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri


def run_trials(
    sweep: Sweep, out: Path | None, store: Path, executor: str, tracker: str, max_cost_usd: float | None
) -> NoReturn:
    """Run a sweep and leave with its exit code."""
    from aipo_lab.console.sweep_view import run_sweep

    exit_as(run_sweep(sweep, out, RUNS, store, executor, program(), max_cost_usd, tracker))


def exit_as(outcome: RunOutcome) -> NoReturn:
    """Leave with the exit code of a run."""
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


def given_or_newest(folder: Path | None) -> Path:
    """The given output folder, or the one a sweep last wrote to."""
    if folder is not None:
        return folder
    found = sorted(RUNS.glob("*/sweep.yaml"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError("there is no sweep in runs/; run one, or give the output folder of one")
    return found[-1].parent
