"""Which registered things a stage uses, read off its configuration: their identity is part of the stage's key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARKS
from aipo_lab.core.registry import Registry
from aipo_lab.generation.engine import ENGINES
from aipo_lab.objectives import OBJECTIVES
from aipo_lab.prompts.source import PROMPTS
from aipo_lab.ranking.ranker import RANKERS
from aipo_lab.worlds.world import WORLDS

_USED: dict[str, tuple[Registry[Any], str]] = {
    "engine": (ENGINES, "name"),
    "world": (WORLDS, "name"),
    "objective": (OBJECTIVES, "name"),
    "prompts": (PROMPTS, "source"),
    "ranker": (RANKERS, ""),
    "benchmark": (BENCHMARKS, ""),
}
"""By key of a stage's configuration: the registry of what it names, and the name's key where it names a section."""


def used_plugins(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The identity of every registered thing that a stage's configuration names, by key; nothing for built-in ones."""
    found = {}
    for key, (registry, part) in _USED.items():
        named = config.get(key)
        if named and (identity := registry.identity(named[part] if part else named)):
            found[key] = identity
    for n, term in enumerate((config.get("objective") or {}).get("terms") or []):
        if identity := OBJECTIVES.identity(term["name"]):
            found[f"objective.terms.{n}"] = identity
    return found
