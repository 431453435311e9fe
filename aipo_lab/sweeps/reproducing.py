"""What a sweep took and how to make it again, for its report: seconds of work by stage, and commands."""

from __future__ import annotations

import shlex
from pathlib import Path

from aipo_lab.core.config import read_yaml
from aipo_lab.core.store import Store
from aipo_lab.sweeps.plan import SweepGraph


def stage_seconds(graph: SweepGraph, store: Store) -> dict[str, float]:
    """Seconds of work in what is stored of a sweep, by stage; an artifact that trials share counts once."""
    seconds: dict[str, float] = {}
    for node in graph.nodes.values():
        if (artifact := store.find(node.stage, node.key)) is not None:
            seconds[node.stage] = seconds.get(node.stage, 0.0) + artifact.duration_s
    return seconds


def commands_again(configuration: Path, source: str, profile: str) -> list[str]:
    """Shell lines that make a sweep again; `configuration` is its `sweep.yaml`, which has versions and commit.

    What `--set` changed is in the resolved recipe of that file and in no command.
    """
    saved = read_yaml(configuration, "sweep file")
    lines = ["# " + ", ".join(f"{name} {version}" for name, version in saved.get("versions", {}).items())]
    if commit := saved.get("commit"):
        changed = "   # with changes that were not committed" if commit.endswith("-dirty") else ""
        lines.append(f"git checkout {commit.removesuffix('-dirty')}{changed}")
    if source:
        alone = not saved["trials"][0]["settings"]  # one trial, of a recipe
        command = ["run", source] if alone else ["sweep", source, "--profile", profile]
        lines.append(shlex.join(["aipo-lab", *command]))
    return lines
