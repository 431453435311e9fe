"""Commands about this installation: what works, what is registered, data files, the store."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aipo_lab.cli.group import EXIT_FAILED_TRIALS, main
from aipo_lab.cli.options import store_option


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
