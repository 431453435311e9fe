"""How long the rest of a sweep takes, from the mean durations of its kinds of stage: for a plan, and while it runs.

What is left is scheduled as the executor will do it (`aipo_lab.execution.simulated`): on the devices that stages hold,
on the workers, and in the order in which they wait for each other.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

from aipo_lab.core.store import Store
from aipo_lab.execution.simulated import SimulatedStage, simulate
from aipo_lab.stages.definition import StageNode
from aipo_lab.stages.devices import demand_of
from aipo_lab.stages.stored import find_stored
from aipo_lab.sweeps.plan import SweepGraph

SAMPLED_DURATIONS = 200
"""Stored stages of one kind whose durations an estimate reads: more make its mean no better, only later."""
LEAST_INTERVAL_S = 1.0
COST_SHARE = 0.02
"""Seconds between two schedules while a sweep runs, and the most of the time that they may take: a large sweep's takes
a second, and what shows it asks a few times a second."""


def known_durations(graph: SweepGraph, store: Store, stored: set[str]) -> dict[str, list[float]]:
    """Seconds that stored stages took, by stage: of at most `SAMPLED_DURATIONS` each, evenly spread over the sweep."""
    by_stage: dict[str, list[StageNode]] = defaultdict(list)
    for reference, node in graph.nodes.items():
        if reference in stored:
            by_stage[node.stage].append(node)
    durations_s: dict[str, list[float]] = defaultdict(list)
    for stage, nodes in by_stage.items():
        for node in nodes[:: -(-len(nodes) // SAMPLED_DURATIONS)]:
            artifact = store.find(node.stage, node.key)
            if artifact is not None:
                durations_s[stage].append(artifact.duration_s)
    return durations_s


def estimate_duration_s(graph: SweepGraph, store: Store, workers: int, stored: set[str] | None = None) -> float | None:
    """Seconds the rest of the sweep should take, before it runs, from the durations of stored stages of the same kind.

    None when a stage that is left to do has never run in this store. `stored` as for `plan_stages`.
    """
    return TimeEstimate(graph, store, workers, stored).left_s()


class TimeEstimate:
    """The time left of a sweep: told what starts and ends, it learns the durations of the rest."""

    def __init__(self, graph: SweepGraph, store: Store, workers: int, stored: set[str] | None = None) -> None:
        self.graph = graph
        self.workers = max(workers, 1)
        self.stored = find_stored(graph.nodes.values(), store) if stored is None else stored
        self._left = {one: node for one, node in graph.nodes.items() if one not in self.stored}
        self._means = {
            stage: Mean(len(some_s), fmean(some_s))
            for stage, some_s in known_durations(graph, store, self.stored).items()
        }
        self._started_s: dict[str, float] = {}
        self._last: _Scheduled | None = None

    def started(self, node: StageNode) -> None:
        """A stage runs from now on; also one whose artifact was found damaged, and is made again."""
        self._left.setdefault(node.reference, node)
        self._started_s[node.reference] = time.monotonic()

    def stopped(self, node: StageNode) -> None:
        """A stage does not run any longer and starts anew."""
        self._started_s.pop(node.reference, None)

    def finished(self, node: StageNode, duration_s: float) -> None:
        """A stage took `duration_s`."""
        self._drop(node.reference)
        self.means_of(node.stage).add(duration_s)

    def means_of(self, stage: str) -> Mean:
        """What is known of the durations of a kind of stage."""
        return self._means.setdefault(stage, Mean())

    def failed(self, node: StageNode) -> None:
        """A stage failed: neither it nor what needs it will run."""
        self._drop(node.reference)
        gone = {node.reference}
        for reference, other in tuple(self._left.items()):  # inputs come before what needs them
            if gone.intersection(other.request.inputs.values()):
                gone.add(reference)
                self._drop(reference)

    def left_s(self) -> float | None:
        """Seconds left, or None while stages are left of a kind that has not run yet."""
        now_s = time.monotonic()
        if self._last is None or now_s >= self._last.good_until_s:
            left_s = self._schedule_s(now_s)
            taken_s = time.monotonic() - now_s
            self._last = _Scheduled(left_s, now_s, now_s + max(LEAST_INTERVAL_S, taken_s / COST_SHARE))
        return self._last.left_s(now_s)

    def _drop(self, reference: str) -> None:
        self._left.pop(reference, None)
        self._started_s.pop(reference, None)

    def _schedule_s(self, now_s: float) -> float | None:
        """What runs comes first, as it holds its devices, and has its mean duration less what is over of it to go."""
        if any(not self.means_of(node.stage).count for node in self._left.values()):
            return None
        passed_s = {reference: now_s - start_s for reference, start_s in self._started_s.items()}
        names = {name for node in self._left.values() for name in node.runtime.devices}
        stages = {
            reference: SimulatedStage(
                max(self._means[self._left[reference].stage].mean - passed_s.get(reference, 0.0), 0.0),
                min(demand_of(self._left[reference]).n_devices, len(names)),
                tuple(self._left[reference].request.inputs.values()),
            )
            for reference in {**passed_s, **self._left}
        }
        return simulate(stages, len(names), self.workers).wall_s


@dataclass
class Mean:
    """Seconds that stages of a kind take."""

    count: int = 0
    mean: float = 0.0

    def add(self, seconds: float) -> None:
        """One more took so long."""
        self.count += 1
        self.mean += (seconds - self.mean) / self.count


@dataclass(frozen=True)
class _Scheduled:
    """What a schedule at `at_s` said, on the clock `time.monotonic`, and until when that will do."""

    wall_s: float | None
    at_s: float
    good_until_s: float

    def left_s(self, now_s: float) -> float | None:
        return None if self.wall_s is None else max(self.wall_s - (now_s - self.at_s), 0.0)
