"""What `aipo-lab export` does and says: a model, or an iteration's pairs, as a folder that other programs read."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from aipo_lab.console.running import command_text, say
from aipo_lab.sweeps.points import find_point


def export_point(
    name: str, target: Path, sweep_folder: Path, store_root: Path | None, pairs: bool, force: bool, program: str
) -> None:
    """Export TRIAL@ITERATION `name` of a sweep's output folder to `target`; raises `UserError` where that cannot be.

    `program` is how to call this program, for the commands that are printed.
    """
    console = Console()
    point = find_point(name, sweep_folder, store_root)
    if pairs:
        from aipo_lab.sweeps.export_pairs import export_pairs

        n_pairs = export_pairs(point, target, force)
        say(console, f"{n_pairs} pairs of iteration {point.t}, which {point.name} made, are in {target}")
        return
    from aipo_lab.sweeps.export import export_model

    export_model(point, target, force)
    say(console, f"{point.name} ({point.checkpoint}) is in {target}; talk to it with:")
    say(console, f"  {command_text(program, 'chat', target)}")
