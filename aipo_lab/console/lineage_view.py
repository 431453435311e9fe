"""What `aipo-lab lineage` shows: the artifacts behind a row of results, in words or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from aipo_lab.console.running import say
from aipo_lab.console.time_left import format_duration
from aipo_lab.sweeps.lineage import Ancestor, Lineage, find_lineage


def show_lineage(what: str, newest: Path | None, store_root: Path | None, as_json: bool) -> None:
    """Print what a row was made from; see `find_lineage` for what it may be and for errors."""
    lineage = find_lineage(what, newest, store_root)
    if as_json:
        print(json.dumps(lineage.values(), ensure_ascii=False))
        return
    console = Console()
    row, point = lineage.row, lineage.point
    metrics = " ".join(f"{name}={value:g}" for name, value in row.metrics.items() if not name.endswith("_se"))
    say(console, f"{row.trial} after iteration {row.iteration} of {point.sweep.name} ({row.state}): {metrics}")
    fingerprint = "" if point.base_fingerprint is None else f", base model's content {point.base_fingerprint}"
    say(console, f"checkpoint {point.checkpoint}, store {point.store.root}{fingerprint}")
    say(console, "made from, first things first:")
    for line in _lines(lineage):
        say(console, line)
    if absent := [one.reference for one in lineage.ancestors if one.manifest is None and not _elsewhere(one, lineage)]:
        say(console, f"not in the store (freed, never made or damaged): {', '.join(absent)}")


def _elsewhere(one: Ancestor, lineage: Lineage) -> bool:
    """Whether it is a base model of the user's own, which no store holds."""
    return one.reference.startswith("base/") and lineage.point.base_fingerprint is not None


def _lines(lineage: Lineage) -> list[str]:
    """One line an artifact, with what is known of its making."""
    widest = max(len(one.title) for one in lineage.ancestors)
    return [f"  {one.title:{widest}}  {one.reference}  {_made(one)}" for one in lineage.ancestors]


def _made(one: Ancestor) -> str:
    if one.manifest is None:
        return "not stored"
    known = one.manifest
    device = (known.get("computed_on") or {}).get("device")
    version = known.get("versions", {}).get("aipo-lab", "unknown")
    place = " ".join(str(part) for part in (known.get("host"), device) if part)
    took = format_duration(float(known["duration_s"]))
    return f"{known.get('created_at', '')} on {place or 'an unknown machine'}, {took}, aipo-lab {version}"
