"""A warning of a training reaches the person who ran the sweep, once, with where it comes from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.stage_warnings import stage_warnings


def trained(store: Store, number: int, summary: dict[str, Any]) -> StageNode:
    request = ArtifactRequest("train", 0, {"number": number}, {})
    store.make(request, lambda _: summary)
    return StageNode(request)


def trial(*nodes: StageNode) -> Any:
    iterations = [SimpleNamespace(t=t, steps={"train": node}) for t, node in enumerate(nodes)]
    return SimpleNamespace(iterations=[*iterations, SimpleNamespace(t=len(nodes), steps={})])


def test_warnings_are_said_once_with_trial_and_iteration(store: Store) -> None:
    quiet, loud = trained(store, 0, {"warnings": []}), trained(store, 1, {"warnings": ["far from the reference"]})
    missing = StageNode(ArtifactRequest("train", 0, {"number": 2}, {}))
    trials = {"dpo": trial(quiet, loud), "dpo again": trial(quiet, loud), "aipo": trial(quiet, missing)}
    assert stage_warnings(trials, store) == ["training of dpo, iteration 1: far from the reference"]
