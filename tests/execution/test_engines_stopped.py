"""An idle worker gives the memory of its engines back when a stage of another one needs it, and works on."""

from __future__ import annotations

import io
import json
import queue
from typing import Any

import pytest

from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.execution.worker import STOP_ENGINES, Worker
from aipo_lab.generation import live
from aipo_lab.stages.definition import StageNode, get_stage


class Tenant:
    """Stands for an engine, of which only the end matters here."""

    is_alive = True

    def stop(self) -> None:
        self.is_alive = False


def test_a_worker_that_is_told_to_stops_its_engines_and_says_so(store: Store) -> None:
    tenant = live.live_engine("a", Tenant)  # type: ignore[type-var]
    said = io.StringIO()
    requests: queue.Queue[str | None] = queue.Queue()
    requests.put(json.dumps(STOP_ENGINES))
    requests.put(None)
    Worker(store, said).serve(requests)
    assert not tenant.is_alive
    assert json.loads(said.getvalue()) == {"event": "stopped"}


def unmakeable(stage: str, number: int) -> StageNode:
    """A node that fails at once, as its input is not there."""
    inputs = {"ranking": f"rank/{number:032d}"} if stage == "pair" else {"policy": f"base/{number:032d}"}
    return StageNode(ArtifactRequest(stage, get_stage(stage).version, {}, inputs))


def test_before_a_stage_that_needs_memory_idle_workers_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = InlineExecutor(store, 2)
    try:
        running = [executor.submit(unmakeable("pair", number), lambda *_: None) for number in range(2)]
        for future in running:  # both workers have run something and are idle
            with pytest.raises(Exception, match="its input"):
                future.result(timeout=120)
        started = [worker for worker in executor._all if worker.process is not None]
        told: list[object] = []
        for worker in executor._all:

            def tell(worker: Any = worker, plain: Any = worker.stop_engines) -> None:
                told.append(worker)
                plain()

            monkeypatch.setattr(worker, "stop_engines", tell)
        for stage, expected in (("pair", 0), ("reference", 1)):
            told.clear()
            with pytest.raises(Exception, match="its input"):
                executor.submit(unmakeable(stage, 7), lambda *_: None).result(timeout=120)
            assert len(told) == expected
        assert all(worker.process is not None and worker.process.poll() is None for worker in started)
    finally:
        executor.shutdown()
