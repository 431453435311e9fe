"""Runs a graph of stages on an executor: what is ready starts as soon as there is room."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Protocol

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.store import Store
from aipo_lab.execution.executor import Executor, StageProgress
from aipo_lab.stages.definition import StageNode
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

    def run(self, nodes: Sequence[StageNode]) -> GraphOutcome:
        """Make the artifacts of all `nodes`, given with inputs before what needs them.

        Failures are collected, not raised. On KeyboardInterrupt the executor is left running what it
        runs: the caller shuts it down.
        """
        outcome = GraphOutcome()
        stored = find_stored(nodes, self.store)
        missing = {node.reference: node for node in nodes if node.reference not in stored}
        order = {reference: position for position, reference in enumerate(missing)}
        waiting = {
            reference: {name for name in node.request.inputs.values() if name in missing}
            for reference, node in missing.items()
        }
        dependents: dict[str, list[str]] = defaultdict(list)
        for reference, needs in waiting.items():
            for need in needs:
                dependents[need].append(reference)
        ready = [order[reference] for reference, needs in waiting.items() if not needs]
        heapq.heapify(ready)
        names = list(missing)
        running: dict[Future[float], StageNode] = {}
        while ready or running:
            while ready and len(running) < self.executor.capacity:
                node = missing[names[heapq.heappop(ready)]]
                self.listener.started(node)
                running[self.executor.submit(node, self.listener.progressed)] = node
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                node = running.pop(future)
                if self._settle(node, future, outcome, dependents):
                    for reference in dependents[node.reference]:
                        waiting[reference].discard(node.reference)
                        if not waiting[reference] and reference not in outcome.blocked:
                            heapq.heappush(ready, order[reference])
            self.listener.tick()
        return outcome

    def _settle(
        self,
        node: StageNode,
        future: Future[float],
        outcome: GraphOutcome,
        dependents: Mapping[str, Sequence[str]],
    ) -> bool:
        """Record how a stage ended; whether its artifact is there now."""
        error = future.exception()
        if error is None:
            self.listener.finished(node, future.result())
            return True
        if not isinstance(error, StageFailed):
            raise error
        outcome.failures[node.reference] = f"{node.title}: {error}"
        self.listener.failed(node, str(error))
        pending = list(dependents.get(node.reference, ()))
        while pending:
            reference = pending.pop()
            if reference not in outcome.blocked:
                outcome.blocked[reference] = node.reference
                pending += dependents.get(reference, ())
        return False
