"""Commands that take a model out of a sweep, and that talk to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aipo_lab.cli.group import given_or_newest, main, program
from aipo_lab.cli.options import from_option, saved_store_option


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

    export_point(point, target, given_or_newest(sweep_folder), store, pairs, force, program())


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

    found = find_chat_models(models, chat_template, lambda: given_or_newest(sweep_folder), store)
    hold_conversation(found, chat_options(system=system, **options), prompt)
