"""Devices are divided among stages: on pretended names, through the real scheduler and worker processes.

The names stand in `CUDA_VISIBLE_DEVICES` of the workers, which compute on the processor; every manifest says what its
worker saw.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aipo_lab.core.devices import VISIBLE
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.core.store import Artifact, ArtifactRequest, Store
from aipo_lab.execution.executor import StageProgress
from aipo_lab.execution.inline import InlineExecutor, worker_count
from aipo_lab.execution.pending import PATIENCE, PendingStages
from aipo_lab.execution.places import Places
from aipo_lab.execution.scheduler import Scheduler
from aipo_lab.pipeline.recipe import ComputeConfig
from aipo_lab.stages.definition import Runtime, StageNode, get_stage
from aipo_lab.stages.devices import Demand, demand_of
from aipo_lab.sweeps.plan import build_graph, sweep_workers
from aipo_lab.sweeps.sweep import load_sweep
from aipo_lab.training.config import ParallelSettings
from aipo_lab.worlds.world import get_world

WORLD = {"name": "micro", "seed": 0}


class Silent:
    """A listener that keeps which stages ran at the same time."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.together: list[frozenset[str]] = []
        self.reasons: list[str] = []

    def started(self, node: StageNode) -> None:
        self.running.add(node.reference)
        self.together.append(frozenset(self.running))

    def progressed(self, node: StageNode, progress: StageProgress) -> None:
        pass

    def finished(self, node: StageNode, duration_s: float) -> None:
        self.running.discard(node.reference)

    def failed(self, node: StageNode, reason: str) -> None:
        self.running.discard(node.reference)
        self.reasons.append(reason)

    postponed = failed

    def tick(self) -> None:
        pass


def saw(artifact: Artifact) -> list[str]:
    return list(artifact.manifest["computed_on"]["visible"])


@pytest.fixture
def rankings(store: Store) -> list[StageNode]:
    """Four stages that hold a device each, and no model."""

    def responses(folder: Path) -> dict[str, Any]:
        response = {"tokens": 2, "token_ids": [5, 1], "finish_reason": "stop"}
        two = [{"text": text} | response for text in ("A.", "Bee bee.")]
        rows = [
            {"id": str(i), "prompt": prompt, "prompt_token_ids": [5], "responses": two}
            for i, prompt in enumerate(get_world("micro").pool(6))
        ]
        write_jsonl(folder / "responses.jsonl", rows)
        return {}

    made = store.make(ArtifactRequest("respond", 0, {}, {}), responses)
    return [
        StageNode(
            ArtifactRequest(
                "rank", get_stage("rank").version, {"world": WORLD, "seed": seed}, {"responses": f"respond/{made.key}"}
            ),
            Runtime(devices=["left", "right"]),
        )
        for seed in range(4)
    ]


def test_every_worker_has_a_device_of_its_own(store: Store, rankings: list[StageNode]) -> None:
    pairs = [
        StageNode(
            ArtifactRequest("pair", get_stage("pair").version, {}, {"ranking": node.reference}),
            Runtime(devices=["left", "right"]),
        )
        for node in rankings
    ]
    listener, executor = Silent(), InlineExecutor(store, 2)
    try:
        outcome = Scheduler(store, executor, listener).run([*rankings, *pairs])
    finally:
        executor.shutdown()
    assert outcome.failures == {}, listener.reasons
    seen = [saw(store.get("rank", node.key)) for node in rankings]
    assert {tuple(one) for one in seen} == {("left",), ("right",)}
    ranks = {node.reference for node in rankings}
    assert max(len(together & ranks) for together in listener.together) == 2  # one stage a device
    assert [saw(store.get("pair", node.key)) for node in pairs] == [[]] * len(pairs)  # sees none, holds none


SWEEP = {
    "iterations": 1,
    "instruct.source": "pool",
    "instruct.n_prompts": 12,
    "respond.n_candidates": 2,
    "respond.sampling.max_new_tokens": 16,
    "train.batch_size": 4,
    "train.learning_rate": 0.001,
    "benchmarks.micro.n_prompts": 6,
    "benchmarks.micro.sampling.max_new_tokens": 16,
    "compute.devices": ["a", "b", "c"],
    "compute.processes": 2,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_in_the_rehearsal_of_three_devices(tmp_path: Path, base_model_folder: Path) -> None:
    """A training of two processes, and generation in as many, take two devices; judging holds none."""
    path = tmp_path / "tiny.yaml"
    recipe = SWEEP | {"model.source": str(base_model_folder)}
    path.write_text(yaml.safe_dump({"name": "tiny", "recipe": recipe, "space": [{"objective": "dpo"}]}))
    sweep = load_sweep(path)
    assert sweep_workers(sweep) == 3  # one per device, not one per core
    nodes = list(build_graph(sweep).nodes.values())
    store, listener = Store(tmp_path / "store"), Silent()
    executor = InlineExecutor(store, sweep_workers(sweep))
    try:
        outcome = Scheduler(store, executor, listener).run(nodes)
    finally:
        executor.shutdown()
    assert outcome.failures == {}, listener.reasons
    counts = {node.stage: len(saw(store.get(node.stage, node.key))) for node in nodes}
    expected = {node.stage: demand_of(node).n_devices for node in nodes}
    assert counts == expected
    wanted = {"base": 0, "instruct": 0, "respond": 2, "rank": 1, "pair": 0, "train": 2, "answer": 2, "judge": 0}
    assert expected | wanted == expected


def test_a_wide_stage_ends_idle_workers_of_its_devices(store: Store, rankings: list[StageNode]) -> None:
    executor = InlineExecutor(store, 2)
    try:
        for future in [executor.submit(node, lambda *_: None) for node in rankings[:2]]:
            future.result(timeout=120)
        before = {worker.devices: worker.process for worker in executor._all}
        assert before.keys() == {("left",), ("right",)}
        wide = StageNode(
            ArtifactRequest("train", get_stage("train").version, {}, {"policy": "base/00"}),
            Runtime(devices=["left", "right"], parallel=ParallelSettings(processes=2)),
        )
        with pytest.raises(Exception, match="its input"):
            executor.submit(wide, lambda *_: None).result(timeout=120)
        assert {worker.devices for worker in executor._all} == {("left", "right")}
        assert all(process is not None and process.poll() is not None for process in before.values())
    finally:
        executor.shutdown()


def test_places_are_held_until_they_are_released() -> None:
    places = Places(2)
    one, two, none = Demand(1, ("a", "b")), Demand(2, ("a", "b")), Demand(0, ("a", "b"))
    held = places.take(one)
    assert held == ("a",)
    assert not places.has_room(two)  # it waits
    assert places.take(one) == ("b",)
    assert not places.has_room(one)
    assert places.has_room(none)  # judges need no device
    places.take(none)
    places.take(none)
    assert not places.has_room(none)
    places.release(held)
    assert not places.has_room(two)
    places.release(("b",))
    assert places.take(two) == ("a", "b")


def test_no_more_run_side_by_side_than_there_are_workers() -> None:
    places = Places(1)
    places.take(Demand(1, ("a", "b", "c")))
    assert not places.has_room(Demand(1, ("a", "b", "c")))


def waiting(store: Store, *n_devices: int) -> tuple[PendingStages, list[StageNode]]:
    """Stages that are ready, in this order, and the number of devices (of four) each takes."""
    nodes = [
        StageNode(
            ArtifactRequest("train", 0, {"number": number}, {}),
            Runtime(devices=["a", "b", "c", "d"], parallel=ParallelSettings(processes=count)),
        )
        for number, count in enumerate(n_devices)
    ]
    known = {node.reference: node for node in nodes}
    pending = PendingStages(store, known)
    pending.add(known)
    return pending, nodes


def room_for(n_free: int) -> Callable[[StageNode], bool]:
    return lambda node: demand_of(node).n_devices <= n_free


def test_what_fits_overtakes_what_waits_for_more(store: Store) -> None:
    pending, (wide, narrow, other) = waiting(store, 4, 1, 1)
    assert [pending.take(room_for(2)) for _ in range(3)] == [narrow, other, None]
    assert pending
    assert pending.take(room_for(4)) is wide
    assert not pending


def test_what_waits_for_more_is_not_overtaken_for_ever(store: Store) -> None:
    pending, (wide, *narrow) = waiting(store, 4, *[1] * (PATIENCE + 3))
    assert [pending.take(room_for(2)) for _ in range(PATIENCE)] == narrow[:PATIENCE]
    assert pending.take(room_for(2)) is None  # devices are kept free for it
    assert pending.take(room_for(4)) is wide
    assert pending.take(room_for(2)) is narrow[PATIENCE]


def test_a_worker_per_device_and_else_per_core() -> None:
    assert worker_count(ComputeConfig(devices=["0", "1", "5"])) == 3
    assert worker_count(ComputeConfig(devices=["0", "1", "5"], workers=2)) == 2
    assert worker_count(ComputeConfig(threads="all")) == 1


def test_a_named_device_is_cuda_0_to_the_worker_that_sees_it_alone(
    store: Store, rankings: list[StageNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    runtime = Runtime(device="cuda:1", devices=["1"])
    node = StageNode(rankings[0].request, runtime)
    executor = InlineExecutor(store, 1)
    try:
        executor.submit(node, lambda *_: None).result(timeout=120)
    finally:
        executor.shutdown()
    computed_on = store.get("rank", node.key).manifest["computed_on"]
    assert computed_on == {"device": "cuda", "devices": 1, "visible": ["1"]}
