"""Why a stage of a sweep would be computed: new, changed in a setting, of another version, damaged, or for its inputs.

A stage whose inputs are all stored has a reason of its own; any other follows from those before it. The reason is told
by the stored run of the same stage that differs least: only the manifests of that stage are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from aipo_lab.core.manifest import DamagedManifest, read_manifest
from aipo_lab.core.store import Store
from aipo_lab.pipeline.graph import Iteration, TrialGraph
from aipo_lab.stages.definition import StageNode
from aipo_lab.stages.stored import find_stored
from aipo_lab.sweeps.differences import Differences, differences

State = Literal["stored", "damaged", "changed", "version", "new", "follows"]


@dataclass(frozen=True)
class Relative:
    """The stored run of the same stage that differs least."""

    key: str
    created_at: str
    differences: Differences


@dataclass(frozen=True)
class Reason:
    """Why a stage would be computed, or that it would not; `roots` are the stages that it follows from."""

    node: StageNode
    state: State
    text: str
    relative: Relative | None = None
    roots: tuple[StageNode, ...] = ()


class Explainer:
    """Explains the stages of some trials of a sweep, given by name, over a store."""

    def __init__(self, trials: Mapping[str, TrialGraph], store: Store) -> None:
        self._trials = trials
        self._store = store
        self._manifests: dict[str, list[dict[str, Any]]] = {}

    @cached_property
    def nodes(self) -> dict[str, StageNode]:
        """All stages by reference, inputs before what needs them."""
        return {ref: node for trial in self._trials.values() for ref, node in trial.nodes().items()}

    @cached_property
    def stored(self) -> set[str]:
        """References of what is in the store and whole."""
        return find_stored(self.nodes.values(), self._store)

    @cached_property
    def titles(self) -> dict[str, str]:
        """What to call each stage: its title and the iteration that has it first."""
        titles: dict[str, str] = {}
        for trial in self._trials.values():
            for iteration in trial.iterations:
                for node in iteration.nodes():
                    t = max(iteration.t - 1, 0) if node is iteration.policy else iteration.t
                    of = "" if node.stage == "base" else f" of iteration {t}"
                    titles.setdefault(node.reference, node.title + of)
        return titles

    def missing(self) -> list[StageNode]:
        """What would be computed, inputs before what needs them."""
        return [node for reference, node in self.nodes.items() if reference not in self.stored]

    def own_reasons(self) -> list[Reason]:
        """The reasons of all missing stages that do not merely follow from others."""
        return [self.explain(node) for node in self.missing() if not self._missing_inputs(node)]

    def explain(self, node: StageNode) -> Reason:
        """Why the stage would be computed."""
        if node.reference in self.stored:
            artifact = self._store.get(node.stage, node.key)
            made = artifact.manifest.get("created_at", "an unknown time")
            return Reason(node, "stored", f"it is in the store since {made}; it would not be computed")
        if damaged := self._damage(node):
            return Reason(node, "damaged", damaged)
        if roots := self._roots(node):
            named = "; ".join(self.titles[root.reference] for root in roots)
            return Reason(node, "follows", f"it follows from what comes before it: {named}", roots=roots)
        return self._by_relative(node)

    def _damage(self, node: StageNode) -> str:
        path = self._store.path(node.stage, node.key)
        if path.exists():
            return f"it was computed before and is damaged ({path}): `aipo-lab store verify` says which files"
        if (aside := self._store.last_aside(node.stage, node.key)) is not None:
            return f"it was computed before, was damaged and is set aside: {aside}"
        return ""

    def _missing_inputs(self, node: StageNode) -> list[StageNode]:
        return [
            self.nodes[reference]
            for reference in node.request.inputs.values()
            if reference in self.nodes and reference not in self.stored
        ]

    def _roots(self, node: StageNode) -> tuple[StageNode, ...]:
        """The missing stages before this one whose own inputs are all there."""
        found: dict[str, StageNode] = {}
        seen: set[str] = set()
        left = self._missing_inputs(node)
        while left:
            one = left.pop()
            if one.reference in seen:
                continue
            seen.add(one.reference)
            before = self._missing_inputs(one)
            left += before
            if not before:
                found[one.reference] = one
        return tuple(found.values())

    def _by_relative(self, node: StageNode) -> Reason:
        relative = self._nearest(node)
        if relative is None:
            return Reason(node, "new", f"no {node.stage} is in this store yet")
        parts, version = relative.differences.texts(), relative.differences.version
        compared = f"the nearest stored is {node.stage}/{relative.key} of {relative.created_at}"
        if version is not None and len(parts) == 1:
            changed = f"the program's {node.stage} stage has changed (version {version.here}, not {version.there})"
            return Reason(node, "version", f"{changed}; {compared}", relative)
        return Reason(node, "changed", f"{'; '.join(parts)}; {compared}", relative)

    def _nearest(self, node: StageNode) -> Relative | None:
        best: tuple[tuple[int, int], str, dict[str, Any], Differences] | None = None
        for manifest in self._stored_manifests(node.stage):
            found = differences(node.request, manifest)
            distance = (found.own + len(found.inputs), found.own)
            created = str(manifest.get("created_at", ""))
            if best is None or distance < best[0] or (distance == best[0] and created > best[1]):
                best = distance, created, manifest, found
        return None if best is None else Relative(best[2]["key"], best[1], best[3])

    def _stored_manifests(self, stage: str) -> Sequence[dict[str, Any]]:
        """The readable manifests of a stage; those of damaged artifacts tell as much as others."""
        if stage not in self._manifests:
            folder = self._store.root / stage
            keys = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
            found = [_read(path) for path in keys]
            self._manifests[stage] = [manifest for manifest in found if manifest is not None]
        return self._manifests[stage]


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        return read_manifest(folder, folder.parent.name, folder.name)
    except DamagedManifest:
        return None


def first_parting(one: TrialGraph, other: TrialGraph) -> tuple[str, int, StageNode | None, StageNode | None] | None:
    """Where two trials part: the first step that differs, its iteration, and both stages (None: it has none).

    None when all stages are the same.
    """
    for ours, theirs in zip(one.iterations, other.iterations, strict=False):
        here, there = _slots(ours), _slots(theirs)
        for slot in [*here, *(name for name in there if name not in here)]:
            a, b = here.get(slot), there.get(slot)
            if (a and a.reference) != (b and b.reference):
                return slot, ours.t, a, b
    if len(one.iterations) == len(other.iterations):
        return None
    longer = max(one, other, key=lambda trial: len(trial.iterations))
    t = min(len(one.iterations), len(other.iterations)) - 1
    node = next(iter(longer.iterations[t].steps.values()))
    return node.stage, t, *((node, None) if longer is one else (None, node))


def _slots(iteration: Iteration) -> dict[str, StageNode]:
    """The stages of an iteration by what they are in it."""
    data = {} if iteration.data is None else {"data": iteration.data}
    answers = {f"answer of {name}": node for name, node in iteration.answers.items()}
    scores = {f"judge of {name}": node for name, node in iteration.scores.items()}
    return {**data, "policy": iteration.policy, **answers, **scores, **iteration.steps}
