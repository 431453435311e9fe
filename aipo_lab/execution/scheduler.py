"""Runs a graph of stages on an executor: what is ready starts as soon as there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Protocol

from aipo_lab.core.errors import InputLost, StageFailed
from aipo_lab.core.store import Store
from aipo_lab.execution.executor import DividesDevices, Executor, StageProgress
from aipo_lab.execution.pending import PendingStages
from aipo_lab.stages.definition import StageNode
from aipo_lab.stages.devices import demand_of
from aipo_lab.stages.stored import find_stored

POLL_S = 0.25


class GraphListener(Protocol):
    """Told what happens to stages, always from the scheduling thread but for `progressed`."""

    def started(self, node: StageNode) -> None:
        """The stage runs now."""
        ...

    def progressed(self, node: StageNode, progress: StageProgress) -> None:
        """A running stage got further; called from any thread."""
        ...

    def finished(self, node: StageNode, duration_s: float) -> None:
        """The stage's artifact is in the store."""
        ...

    def failed(self, node: StageNode, reason: str) -> None:
        """The stage failed; what depends on it will not run."""
        ...

    def postponed(self, node: StageNode, reason: str) -> None:
        """The stage could not start: an input was damaged and is made again; then it starts anew."""
        ...

    def tick(self) -> None:
        """Called a few times a second while stages run."""
        ...


@dataclass
class GraphOutcome:
    """How a graph ended: failures by reference, and references that were never tried because of one."""

    failures: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)

    def reason(self, reference: str) -> str | None:
        """Why this stage has no artifact, or None if it has one."""
        culprit = self.blocked.get(reference, reference)
        return self.failures.get(culprit)


class Scheduler:
    """Runs each node once, in the order of `nodes` where the graph leaves a choice."""

    def __init__(self, store: Store, executor: Executor, listener: GraphListener) -> None:
        self.store = store
        self.executor = executor
        self.listener = listener

    def run(self, nodes: Sequence[StageNode], known: Mapping[str, StageNode] | None = None) -> GraphOutcome:
        """Make the artifacts of all `nodes`, given with inputs before what needs them.

        `known` are all nodes of the graph by reference (those given, by default): what is found damaged of them when it
        is first used is made again. Failures are collected, not raised. On KeyboardInterrupt the executor is left
        running what it runs: the caller shuts it down.
        """
        known = known or {node.reference: node for node in nodes}
        outcome = GraphOutcome()
        stored = find_stored(nodes, self.store)
        pending = PendingStages(self.store, known)
        pending.add(node.reference for node in nodes if node.reference not in stored)
        running: dict[Future[float], StageNode] = {}
        while pending or running:
            while (node := self._next(pending, list(running.values()))) is not None:
                self.listener.started(node)
                running[self.executor.submit(node, self.listener.progressed)] = node
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                self._settle(running.pop(future), future, outcome, pending)
            self.listener.tick()
        return outcome

    def _next(self, pending: PendingStages, running: Sequence[StageNode]) -> StageNode | None:
        """The next stage if the executor has room for one.

        At most its capacity run that hold devices, and as many that hold none: those count until they are settled here.
        """
        executor = self.executor
        if not isinstance(executor, DividesDevices):
            return pending.take() if len(running) < executor.capacity else None
        n_holding = sum(demand_of(node).n_devices > 0 for node in running)
        counts = {True: n_holding, False: len(running) - n_holding}
        return pending.take(
            lambda node: counts[demand_of(node).n_devices > 0] < executor.capacity and executor.has_room(node)
        )

    def _settle(self, node: StageNode, future: Future[float], outcome: GraphOutcome, pending: PendingStages) -> None:
        """Record how a stage ended."""
        error = future.exception()
        if error is None:
            pending.finished(node.reference)
            self.listener.finished(node, future.result())
            return
        if isinstance(error, InputLost):
            culprit = outcome.blocked.get(error.reference, error.reference)
            if culprit not in outcome.failures and pending.again(node.reference, error.reference):
                self.listener.postponed(node, str(error))
                return
        if not isinstance(error, StageFailed):
            raise error
        outcome.failures[node.reference] = f"{node.title}: {error}"
        outcome.blocked |= dict.fromkeys(pending.failed(node.reference), node.reference)
        self.listener.failed(node, str(error))
