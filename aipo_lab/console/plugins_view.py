"""What `aipo-lab plugins` shows: every registered name, from where, in which version, and what is broken."""

from __future__ import annotations

from importlib import import_module

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aipo_lab.core.registry import REGISTRIES, Offer

REGISTERED_IN = (
    "aipo_lab.objectives",
    "aipo_lab.generation.engine",
    "aipo_lab.ranking.ranker",
    "aipo_lab.prompts.source",
    "aipo_lab.benchmarks.catalogue",
    "aipo_lab.worlds.world",
    "aipo_lab.execution.executor",
    "aipo_lab.tracking.tracker",
)
"""The modules that hold the registries, in the order they are listed."""


def all_offers() -> list[Offer]:
    """What all registries hold, kind by kind."""
    for module in REGISTERED_IN:
        import_module(module)
    return [offer for registry in REGISTRIES.values() for offer in registry.offers()]


def show_plugins() -> bool:
    """Print what is registered; whether anything of it is broken."""
    console = Console()
    table = Table(title="Registered", title_justify="left")
    for column in ("kind", "name", "from", "version"):
        table.add_column(column, overflow="fold")
    offers = all_offers()
    for offer in offers:
        version = "[red]broken[/red]" if offer.problem else str(offer.version)
        table.add_row(offer.kind, offer.name, offer.origin, version)
    console.print(table)
    broken = [offer for offer in offers if offer.problem]
    for offer in broken:
        console.print(f"[red]broken[/red] {escape(offer.problem)}", highlight=False, soft_wrap=True)
    return bool(broken)
