"""An input found damaged when a stage first uses it is made again, with nothing else, and the stage then runs."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.execution.scheduler import GraphOutcome, Scheduler
from aipo_lab.stages.definition import StageNode, get_stage
from aipo_lab.worlds.world import get_world

WORLD = {"name": "micro", "seed": 0}


def node(stage: str, config: dict[str, Any], **inputs: str) -> StageNode:
    return StageNode(ArtifactRequest(stage, get_stage(stage).version, config, inputs))


@pytest.fixture
def chain(store: Store) -> dict[str, StageNode]:
    """rank -> pair -> two stages that cannot be made without the pairs; only programs, no model."""

    def responses(folder: Path) -> dict[str, Any]:
        prompts = get_world("micro").pool(6)
        response = {"tokens": 2, "token_ids": [5, 1], "finish_reason": "stop"}
        texts = ("A.", "Bee bee.")
        rows = [
            {
                "id": str(i),
                "prompt": prompt,
                "prompt_token_ids": [5, 6],
                "responses": [{"text": text} | response for text in texts],
            }
            for i, prompt in enumerate(prompts)
        ]
        write_jsonl(folder / "responses.jsonl", rows)
        return {}

    made = store.make(ArtifactRequest("respond", 0, {}, {}), responses)
    rank = node("rank", {"world": WORLD, "seed": 1}, responses=f"respond/{made.key}")
    pair = node("pair", {}, ranking=rank.reference)
    pair_2 = node("pair", {"drop_urls": False}, ranking=rank.reference)
    return {one.reference: one for one in (rank, pair, pair_2)}


class Events:
    def __init__(self) -> None:
        self.of: dict[str, list[str]] = {name: [] for name in ("started", "finished", "failed", "postponed")}
        self.reasons: list[str] = []

    def started(self, node: StageNode) -> None:
        self.of["started"].append(node.reference)

    def progressed(self, *_: Any) -> None:
        pass

    def finished(self, node: StageNode, duration_s: float) -> None:
        self.of["finished"].append(node.reference)

    def failed(self, node: StageNode, reason: str) -> None:
        self.of["failed"].append(node.reference)
        self.reasons.append(reason)

    def postponed(self, node: StageNode, reason: str) -> None:
        self.of["postponed"].append(node.reference)
        self.reasons.append(reason)

    def tick(self) -> None:
        pass


def run(chain: dict[str, StageNode], store: Store, wanted: list[str] | None = None) -> tuple[GraphOutcome, Events]:
    events, executor = Events(), InlineExecutor(Store(store.root), 1)
    try:
        nodes = [chain[name] for name in (wanted or chain)]
        return Scheduler(Store(store.root), executor, events).run(nodes, chain), events
    finally:
        executor.shutdown()


def spoil(store: Store, node: StageNode, name: str) -> None:
    """Other content of the same size, which a look-up cannot see."""
    path = store.path(node.stage, node.key) / name
    path.write_bytes(b"x" * path.stat().st_size)


def test_a_damaged_input_is_made_again_and_nothing_else(store: Store, chain: dict[str, StageNode]) -> None:
    rank, pair, pair_2 = chain.values()
    assert run(chain, store)[0].failures == {}
    before = {one.reference: store.path(one.stage, one.key).stat().st_ino for one in chain.values()}
    for one in (pair, pair_2):
        shutil.rmtree(store.path(one.stage, one.key))
    content = (store.path("rank", rank.key) / "ranking.jsonl").read_bytes()
    spoil(store, rank, "ranking.jsonl")
    outcome, events = run(chain, store, [pair.reference, pair_2.reference])
    assert (outcome.failures, outcome.blocked) == ({}, {})
    assert Counter(events.of["finished"]) == Counter(list(chain))
    assert set(events.of["postponed"]) >= {pair.reference}
    assert f"its input {rank.reference} was damaged and is set aside" in events.reasons[0]
    assert (store.path("rank", rank.key) / "ranking.jsonl").read_bytes() == content
    assert store.path("rank", rank.key).stat().st_ino != before[rank.reference]
    assert (store.root / "rank" / f".damaged-{rank.key}-1").is_dir()


def test_an_input_that_nobody_can_make_fails_the_stage_with_the_reason(
    store: Store, chain: dict[str, StageNode]
) -> None:
    rank, pair, pair_2 = chain.values()
    (reference,) = rank.request.inputs.values()
    spoil(store, StageNode(ArtifactRequest("respond", 0, {}, {})), "responses.jsonl")
    outcome, events = run(chain, store)
    assert list(outcome.failures) == [rank.reference]
    assert f"its input {reference} was damaged and is set aside" in outcome.failures[rank.reference]
    assert outcome.blocked == {pair.reference: rank.reference, pair_2.reference: rank.reference}
    assert events.of["started"] == [rank.reference]


def test_damage_that_a_look_up_sees_is_made_again_from_the_start(store: Store, chain: dict[str, StageNode]) -> None:
    rank, *_ = chain.values()
    run(chain, store)
    (store.path("rank", rank.key) / "ranking.jsonl").unlink()
    _, events = run(chain, store)
    assert events.of["started"] == [rank.reference]
