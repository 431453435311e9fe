"""The `inline` executor: stages run on this machine, side by side in worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aipo_lab.core.devices import environment_of
from aipo_lab.core.errors import InputLost, StageFailed
from aipo_lab.core.store import Store
from aipo_lab.execution.executor import EXECUTORS, ExecutorDefinition, ProgressSink, StageProgress
from aipo_lab.execution.places import Places
from aipo_lab.execution.worker import STOP_ENGINES, encode_node
from aipo_lab.pipeline.placement import recipe_devices
from aipo_lab.pipeline.recipe import ComputeConfig
from aipo_lab.stages.definition import MEMORY_STAGES, StageNode
from aipo_lab.stages.devices import demand_of

LOG_TAIL_LINES = 40
# Threads that wait must soon sleep: spinning on, as they do by default, they take the cores from whatever else
# runs on the machine (measured: 2-7 times slower on two busy cores; not spinning at all costs half of that).
# Memory that a training step frees is kept for the next one: else a fifth of the processor time of CPU training
# goes into the kernel handing out the same pages again (the worker gives them back after a stage). In ordinary pages:
# large ones made steps no faster, but a virtual machine's host takes seconds to find a GB of them.
WORKER_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "2000",
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


def threads_per_stage(compute: ComputeConfig) -> int:
    """CPU threads of one stage on this machine."""
    return (os.cpu_count() or 1) if compute.threads == "all" else compute.threads


def worker_count(compute: ComputeConfig) -> int:
    """Stages run side by side on this machine: one per device, without devices as many as the cores allow."""
    if compute.workers != "auto":
        return compute.workers
    return len(recipe_devices(compute)) or max(1, (os.cpu_count() or 1) // threads_per_stage(compute))


class InlineExecutor:
    """Worker processes, started when first needed and replaced when one dies.

    A stage that holds devices runs in a worker that sees those and no others (`CUDA_VISIBLE_DEVICES`), so that whatever
    it starts, plug-ins included, keeps to them. An idle worker that holds others of them is ended first: its models,
    engines and CUDA context leave their memory. A worker for stages that hold none sees none.
    """

    def __init__(self, store: Store, workers: int) -> None:
        self._store = store
        self._workers = workers
        self._places = Places(workers)
        self._idle: deque[_WorkerProcess] = deque()
        self._all: set[_WorkerProcess] = set()

    @property
    def capacity(self) -> int:
        """See `Executor.capacity`."""
        return self._workers

    def has_room(self, node: StageNode) -> bool:
        """See `DividesDevices.has_room`."""
        return self._places.has_room(demand_of(node))

    def submit(self, node: StageNode, on_progress: ProgressSink) -> Future[float]:
        """See `Executor.submit`. There must be room for the stage."""
        demand = demand_of(node)
        names = self._places.take(demand)
        worker = self._worker_for(names if demand.names else None)
        if node.stage in MEMORY_STAGES and not demand.names:
            for other in self._idle:
                other.stop_engines()
        if names and node.runtime.device.startswith("cuda"):  # its devices are all that it sees, counted from 0
            node = replace(node, runtime=node.runtime.model_copy(update={"device": "cuda"}))
        future: Future[float] = Future()

        def run() -> None:
            try:
                result = worker.run(node, on_progress)
            except BaseException as error:
                self._free(worker, names)
                future.set_exception(error)
            else:
                self._free(worker, names)
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future

    def shutdown(self) -> None:
        """See `Executor.shutdown`."""
        for worker in self._all:
            worker.stop()

    def _free(self, worker: _WorkerProcess, names: tuple[str, ...]) -> None:
        self._idle.append(worker)
        self._places.release(names)

    def _worker_for(self, names: tuple[str, ...] | None) -> _WorkerProcess:
        """The worker that was idle longest of those that see just `names` (None: whatever this process sees)."""
        for worker in tuple(self._idle):
            if worker.devices == names:
                self._idle.remove(worker)
                return worker
        for worker in tuple(self._idle):
            if set(names or ()) & set(worker.devices or ()):
                self._idle.remove(worker)
                self._all.remove(worker)
                worker.stop_engines()  # which waits until their memory is back
                worker.stop()
        made = _WorkerProcess(self._store, names)
        self._all.add(made)
        return made


class _WorkerProcess:
    """One worker process and the conversation with it; `devices`: the names of all it sees, None: as this process."""

    def __init__(self, store: Store, devices: tuple[str, ...] | None = None) -> None:
        self.store = store
        self.devices = devices
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False

    def run(self, node: StageNode, on_progress: ProgressSink) -> float:
        """Run a stage and return its seconds; raises `StageFailed` with the reason (`InputLost` for an input)."""
        process = self._running_process(node.runtime.threads)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(encode_node(node)) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._death(process, node) from None
        for line in process.stdout:
            answer = json.loads(line)
            if answer["event"] == "done":
                return float(answer["duration_s"])
            if answer["event"] == "input_lost":
                raise InputLost(answer["reference"], answer["reason"])
            if answer["event"] == "failed":
                raise StageFailed(_failure_text(answer, self.store.log_path(node.stage, node.key)))
            on_progress(node, _as_progress(answer))
        raise self._death(process, node)

    def stop_engines(self) -> None:
        """Have the memory of its live engines given back; the process must be idle."""
        if self.process is None or self.process.poll() is not None:
            return
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # it just died, and its engines with it
            self.process.stdin.write(json.dumps(STOP_ENGINES) + "\n")
            self.process.stdin.flush()
            self.process.stdout.readline()

    def stop(self) -> None:
        """Kill the process."""
        self.stopped = True
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _running_process(self, threads: int) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None:
            devices = {} if self.devices is None else environment_of(self.devices)
            environment = os.environ | WORKER_ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)} | devices
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aipo_lab.execution.worker", str(self.store.root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the parent only, which then stops its workers
            )
        return self.process

    def _death(self, process: subprocess.Popen[str], node: StageNode) -> StageFailed:
        """Why a worker that said nothing more is gone."""
        code = process.wait()
        if self.stopped:
            return StageFailed("stopped")
        log = self.store.log_path(node.stage, node.key)
        cause = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -9 else ""
        return StageFailed(f"the worker running {node.stage} {cause}{hint}\n{_tail(log)}")


def _as_progress(answer: dict[str, Any]) -> StageProgress:
    if answer["event"] == "waiting":
        return StageProgress(unit="waiting for another process")
    return StageProgress(answer["done"], answer["total"], answer["unit"])


def _failure_text(answer: dict[str, Any], log: Path) -> str:
    if not answer["traceback"]:
        return str(answer["reason"])
    return f"{answer['reason']}\n{_tail(log)}"


def _tail(log: Path) -> str:
    """The last lines of a log, and where the rest is."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return "\n".join([*lines[-LOG_TAIL_LINES:], f"log: {log}"])


EXECUTORS.add("inline", ExecutorDefinition(make=InlineExecutor))
