"""The scheduler on real worker processes: order, failures, killed workers, dead parents, and equal results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.store import Artifact, ArtifactRequest, Store
from aipo_lab.execution.executor import StageProgress
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.execution.scheduler import GraphOutcome, Scheduler
from aipo_lab.execution.worker import decode_node, encode_node
from aipo_lab.stages.definition import Runtime, StageNode
from aipo_lab.sweeps.plan import SweepGraph, build_graph
from aipo_lab.sweeps.sweep import load_sweep

TINY = {
    "iterations": 2,
    "instruct.source": "pool",
    "instruct.n_prompts": 12,
    "respond.n_candidates": 2,
    "respond.sampling.max_new_tokens": 16,
    "train.batch_size": 4,
    "train.learning_rate": 0.001,
    "benchmarks.micro.n_prompts": 6,
    "benchmarks.micro.sampling.max_new_tokens": 16,
}
SPACE = [
    {"objective": "dpo", "beta": [0.1]},
    {"objective": "simpo"},
    {"objective": "aipo", "train.learning_rate": [1e30]},
]


class Recorder:
    """Writes down what the scheduler tells."""

    def __init__(self, on_progress: Callable[[StageNode, StageProgress], None] = lambda *_: None) -> None:
        self.on_progress = on_progress
        self.events: list[tuple[str, str]] = []
        self.reasons: dict[str, str] = {}
        self.running = self.most_running = 0

    def started(self, node: StageNode) -> None:
        self.events.append(("started", node.reference))
        self.running += 1
        self.most_running = max(self.most_running, self.running)

    def progressed(self, node: StageNode, progress: StageProgress) -> None:
        self.on_progress(node, progress)

    def finished(self, node: StageNode, duration_s: float) -> None:
        assert duration_s >= 0
        self.events.append(("finished", node.reference))
        self.running -= 1

    def failed(self, node: StageNode, reason: str) -> None:
        self.events.append(("failed", node.reference))
        self.reasons[node.reference] = reason
        self.running -= 1

    def tick(self) -> None:
        pass


@pytest.fixture(scope="module")
def make_graph(tmp_path_factory: pytest.TempPathFactory, base_model_folder: Path) -> Callable[..., SweepGraph]:
    def make(space: list[dict[str, Any]], **changes: Any) -> SweepGraph:
        path = tmp_path_factory.mktemp("sweep") / "tiny.yaml"
        recipe = TINY | {"model.source": str(base_model_folder)} | changes
        path.write_text(yaml.safe_dump({"name": "tiny", "recipe": recipe, "space": space}, sort_keys=False))
        return build_graph(load_sweep(path))

    return make


def run(nodes: list[StageNode], store: Store, workers: int, recorder: Recorder) -> GraphOutcome:
    executor = InlineExecutor(store, workers)
    try:
        return Scheduler(store, executor, recorder).run(nodes)
    finally:
        executor.shutdown()


@pytest.fixture(scope="module")
def graph(make_graph: Callable[..., SweepGraph]) -> SweepGraph:
    return make_graph(SPACE)


Ran = tuple[Store, GraphOutcome, Recorder]


@pytest.fixture(scope="module")
def ran(graph: SweepGraph, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The tiny sweep run by two workers."""
    store, recorder = Store(tmp_path_factory.mktemp("two")), Recorder()
    return store, run(list(graph.nodes.values()), store, 2, recorder), recorder


def descendants(graph: SweepGraph, reference: str) -> set[str]:
    found: set[str] = set()
    for node in graph.nodes.values():  # inputs come first
        if (found | {reference}) & set(node.request.inputs.values()):
            found.add(node.reference)
    return found


def test_every_node_but_what_depends_on_the_failure_is_made_once(graph: SweepGraph, ran: Ran) -> None:
    store, outcome, recorder = ran
    (failed,) = outcome.failures
    blocked = descendants(graph, failed)
    assert outcome.blocked == dict.fromkeys(blocked, failed)
    finished = [reference for event, reference in recorder.events if event == "finished"]
    assert sorted(finished) == sorted(graph.nodes.keys() - blocked - {failed})
    for reference, node in graph.nodes.items():
        assert store.contains(node.stage, node.key) == (reference in finished)


def test_the_failure_says_why_and_belongs_to_its_trial_only(graph: SweepGraph, ran: Ran) -> None:
    _, outcome, recorder = ran
    (failed,) = outcome.failures
    (*_, bad) = graph.trials
    assert bad.startswith("aipo")
    assert graph.users[failed] == [bad]
    assert failed == graph.trials[bad].iterations[0].steps["train"].reference
    assert "lower train.learning_rate" in recorder.reasons[failed]
    for reference in descendants(graph, failed) | {failed}:
        assert outcome.reason(reference) == outcome.failures[failed]
        assert graph.users[reference] == [bad]
    assert outcome.reason(next(iter(graph.nodes))) is None


def test_nothing_starts_before_its_inputs_are_there(graph: SweepGraph, ran: Ran) -> None:
    _, _, recorder = ran
    there: set[str] = set()
    for event, reference in recorder.events:
        if event == "started":
            assert set(graph.nodes[reference].request.inputs.values()) <= there
        elif event == "finished":
            there.add(reference)
    assert recorder.most_running == 2


def content(artifact: Artifact) -> dict[str, Any]:
    """The hashes of its files, but for the times a training took."""
    return {name: file for name, file in artifact.manifest["files"].items() if name != "speed.jsonl"}


def test_one_worker_makes_the_same_bytes_as_two(graph: SweepGraph, ran: Ran, tmp_path: Path) -> None:
    store, outcome, _ = ran
    alone = Store(tmp_path / "one")
    recorder = Recorder()
    assert run(list(graph.nodes.values()), alone, 1, recorder).failures.keys() == outcome.failures.keys()
    assert recorder.most_running == 1
    compared = 0
    for node in graph.nodes.values():
        if (artifact := store.find(node.stage, node.key)) is not None:
            other = alone.get(node.stage, node.key)
            assert content(other) == content(artifact), node.reference
            compared += 1
    assert compared > 25


def test_a_second_run_starts_only_what_failed(graph: SweepGraph, ran: Ran) -> None:
    store, outcome, _ = ran
    recorder = Recorder()
    again = run(list(graph.nodes.values()), store, 1, recorder)
    assert [reference for event, reference in recorder.events if event == "started"] == list(outcome.failures)
    assert again.failures.keys() == outcome.failures.keys()


def worker_of(log: Path) -> int:
    """The process whose output goes to `log`."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "fd" / "1").readlink() == log:
                    return int(process.name)
            except OSError:
                continue
    raise AssertionError(f"nobody writes to {log}")


def test_a_killed_worker_fails_its_stage_and_the_others_go_on(make_graph: Callable[..., SweepGraph], ran: Ran) -> None:
    store, _, _ = ran
    graph = make_graph(
        [{"objective": "dpo", "beta": [0.3], "train.epochs": [100]}, {"objective": "dpo", "beta": [0.7]}], iterations=1
    )
    long, other = (trial.iterations[0].steps["train"] for trial in graph.trials.values())
    killed: list[int] = []

    def kill(node: StageNode, progress: StageProgress) -> None:
        if node.reference == long.reference and progress.done and not killed:
            killed.append(worker_of(store.log_path(node.stage, node.key)))
            os.kill(killed[0], signal.SIGKILL)

    recorder = Recorder(kill)
    outcome = run(list(graph.nodes.values()), store, 2, recorder)
    assert killed
    assert list(outcome.failures) == [long.reference]
    assert "the worker running train was killed by signal 9 (out of memory?)" in recorder.reasons[long.reference]
    assert f"log: {store.log_path('train', long.key)}" in recorder.reasons[long.reference]
    assert outcome.blocked.keys() == descendants(graph, long.reference)
    assert not store.contains("train", long.key)
    assert store.contains("train", other.key)
    (_, trial) = graph.trials.values()
    assert all(store.contains(node.stage, node.key) for node in trial.nodes().values())


def test_an_unexpected_error_is_reported_with_the_end_of_the_log(ran: Ran) -> None:
    store, _, _ = ran
    empty = ArtifactRequest("rank", 0, {}, {})
    store.make(empty, lambda folder: {})
    node = StageNode(ArtifactRequest("pair", 1, {}, {"ranking": f"rank/{empty.key}"}))
    executor = InlineExecutor(store, 1)
    try:
        with pytest.raises(StageFailed, match=r"AssertionError: artifact rank/.* has no ranking\.jsonl") as caught:
            executor.submit(node, lambda *_: None).result(timeout=120)
        assert "Traceback" in str(caught.value)
        assert str(store.log_path("pair", node.key)) in str(caught.value)
        # the worker lives on
        good = StageNode(ArtifactRequest("pair", 1, {"drop_truncated": False}, {"ranking": _some_ranking(store)}))
        assert executor.submit(good, lambda *_: None).result(timeout=120) >= 0
    finally:
        executor.shutdown()


def _some_ranking(store: Store) -> str:
    return next(f"rank/{path.name}" for path in (store.root / "rank").iterdir() if (path / "ranking.jsonl").is_file())


PARENT = """
import json, sys
from pathlib import Path
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.execution.worker import decode_node
from aipo_lab.core.store import Store

executor = InlineExecutor(Store(Path(sys.argv[1])), 1)
node = decode_node(json.loads(sys.argv[2]))
executor.submit(node, lambda node, at: print(at.done, flush=True)).result(timeout=120)
"""


@pytest.fixture
def parent(make_graph: Callable[..., SweepGraph], ran: Ran) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process whose only worker is in the middle of a long training, and the worker's pid."""
    store, _, _ = ran
    graph = make_graph([{"objective": "simpo", "beta": [2.5], "train.epochs": [100]}], iterations=1)
    (trial,) = graph.trials.values()
    node = trial.iterations[0].steps["train"]
    arguments = [sys.executable, "-c", PARENT, str(store.root), json.dumps(encode_node(node))]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        while int(process.stdout.readline()) < 1:
            pass
        yield process, worker_of(store.log_path(node.stage, node.key))
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_workers_end_with_their_parent_in_the_middle_of_a_stage(parent: tuple[subprocess.Popen[str], int]) -> None:
    process, worker = parent
    process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _alive(worker):
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_shutting_down_stops_a_running_stage_at_once(make_graph: Callable[..., SweepGraph], ran: Ran) -> None:
    store, _, _ = ran
    graph = make_graph([{"objective": "simpo", "beta": [2.7], "train.epochs": [100]}], iterations=1)
    (trial,) = graph.trials.values()
    node = trial.iterations[0].steps["train"]
    executor = InlineExecutor(store, 1)
    try:
        future = executor.submit(node, lambda *_: executor.shutdown())  # as soon as it reports progress
        with pytest.raises(StageFailed, match="stopped"):
            future.result(timeout=120)
    finally:
        executor.shutdown()
    assert not store.contains(node.stage, node.key)


def test_a_node_survives_its_way_to_the_worker() -> None:
    request = ArtifactRequest("train", 2, {"a": [1, 2.5, None], "b": {"c": "x"}}, {"policy": "base/00"})
    node = StageNode(request, Runtime(threads=3, device="cuda:1", model_folder="/m"))
    back = decode_node(json.loads(json.dumps(encode_node(node))))
    assert back.reference == node.reference
    assert back.runtime == node.runtime
    assert back.request == node.request
