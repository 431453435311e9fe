"""Speeds and lengths that the manifests of a store tell: of the same base model, on the same kind of device.

A figure is the median over the stage runs it was seen in, at most `SAMPLES` of a stage: a run that was interrupted
reports the time of its last session only, and a median does not mind one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from aipo_lab.core.manifest import DamagedManifest, read_manifest
from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode

SAMPLES = 100
UNITS = {
    "instruct": "prompts",
    "respond": "tokens",
    "rank": "prompts",
    "train_reward": "pairs",
    "reference": "pairs",
    "analyse": "pairs",
    "train": "tokens",
    "answer": "tokens",
    "answer_official": "tokens",
}
"""By stage: what its summary counts that takes the time."""

COUNTED = {"respond": "responses", "answer": "answers"}
"""By stage: what its tokens are divided by for a mean length. Official answers have one turn or two."""


@dataclass(frozen=True)
class Rate:
    """Units a second and device, and the stage runs it was measured in."""

    per_s: float
    unit: str
    n_runs: int


Place = tuple[str, str, str]
"""A stage, the base model its policy comes from, and the settings that decide its speed."""


class MeasuredFigures:
    """What the store tells of stage runs on one kind of device; `device`: part of its name, or `cpu`."""

    def __init__(self, store: Store, nodes: Mapping[str, StageNode], device: str) -> None:
        self._store = store
        self._nodes = nodes
        self._device = device
        self._roots: dict[str, str | None] = {}

    def rate(self, node: StageNode) -> Rate | None:
        """How fast the node's stage was, or None if it never ran so."""
        return self._found[0].get(self._place_of(node))

    def length(self, stage: str, node: StageNode) -> float | None:
        """Mean tokens of what `stage` wrote with the node's base model (`node` itself, where it is of that stage)."""
        if stage == node.stage:
            return self._found[1].get(self._place_of(node))
        root = self._root(node.reference)
        found = [value for place, value in self._found[1].items() if place[:2] == (stage, root)]
        return median(found) if found else None

    @cached_property
    def _found(self) -> tuple[dict[Place, Rate], dict[Place, float]]:
        speeds: dict[Place, list[float]] = defaultdict(list)
        lengths: dict[Place, list[float]] = defaultdict(list)
        for stage in UNITS:
            for manifest in self._manifests(stage):
                root = self._root(f"{stage}/{manifest['key']}", manifest)
                amount = manifest["summary"].get(UNITS[stage])
                if root is None or not isinstance(amount, int | float) or amount <= 0 or manifest["duration_s"] <= 0:
                    continue
                place = stage, root, variant(stage, manifest["config"])
                speeds[place].append(amount / manifest["duration_s"] / _devices(manifest))
                if n := manifest["summary"].get(COUNTED.get(stage, "")):
                    lengths[place].append(amount / n)
        rates = {place: Rate(median(values), UNITS[place[0]], len(values)) for place, values in speeds.items()}
        return rates, {place: median(values) for place, values in lengths.items()}

    def _manifests(self, stage: str) -> list[dict[str, Any]]:
        """Manifests of the stage on this kind of device, evenly over its folder."""
        try:
            keys = sorted(path.name for path in (self._store.root / stage).iterdir() if path.name[0] != ".")
        except (FileNotFoundError, NotADirectoryError):
            return []
        read = [self._manifest(stage, key) for key in keys[:: -(-len(keys) // SAMPLES) or 1]]
        return [one for one in read if one is not None and self._same_device(one)]

    def _manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        try:
            return read_manifest(self._store.path(stage, key), stage, key)
        except DamagedManifest:
            return None

    def _same_device(self, manifest: Mapping[str, Any]) -> bool:
        """Manifests from before devices were written down count as the processor's."""
        found = (manifest.get("computed_on") or {}).get("device", "cpu")
        return self._device.casefold() in str(found).casefold()

    def _place_of(self, node: StageNode) -> Place:
        return node.stage, self._root(node.reference) or "", variant(node.stage, node.request.config)

    def _root(self, reference: str, manifest: Mapping[str, Any] | None = None) -> str | None:
        """The `base` artifact that a stage's policy comes from; None where the chain of manifests is broken."""
        if reference.startswith("base/"):
            return reference
        if reference not in self._roots:
            inputs = self._inputs(reference, manifest)
            before = inputs.get("policy") or next(iter(inputs.values()), None)
            self._roots[reference] = None if before is None else self._root(before)
        return self._roots[reference]

    def _inputs(self, reference: str, manifest: Mapping[str, Any] | None) -> Mapping[str, str]:
        if reference in self._nodes:
            return self._nodes[reference].request.inputs
        found = manifest or self._manifest(*reference.split("/", 1))
        return {} if found is None else found["inputs"]


def variant(stage: str, config: Mapping[str, Any]) -> str:
    """The settings of a stage that decide how fast it is on a given model and device."""
    names = {
        "rank": ("ranker",),
        "train_reward": ("epochs",),
        "analyse": ("similarity",),
        "reference": ("precision",),
        "train": ("precision", "gradient_checkpointing", "lora"),
    }
    chosen = {name: config.get(name) for name in names.get(stage, ("benchmark",))}
    engine = config.get("engine") or {}
    return json.dumps(chosen | {name: engine.get(name) for name in ("name", "dtype")}, sort_keys=True)


def _devices(manifest: Mapping[str, Any]) -> int:
    return max(1, int((manifest.get("computed_on") or {}).get("devices", 1)))
