"""The simulated executor behind `plan`: how long a graph takes when its stages last as long as they are said to.

List scheduling, as the scheduler does it: of the stages whose inputs are made, the first in the graph's order that
there is room for starts; nothing starts later than it could. Room is what `places` says: free devices, and a worker
among those for stages that hold devices, or among as many for stages that hold none.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SimulatedStage:
    """A stage in simulation: its seconds, the devices it holds meanwhile (0: none), and what has to end before it.

    Inputs that are not in the graph count as made.
    """

    duration_s: float
    devices: int
    inputs: Sequence[str] = ()


@dataclass(frozen=True)
class Schedule:
    """When every stage ends, in seconds from the start, and the device seconds that all of them hold together."""

    ends_s: Mapping[str, float]
    device_s: float

    @property
    def wall_s(self) -> float:
        """Seconds from the first start to the last end."""
        return max(self.ends_s.values(), default=0.0)


def simulate(stages: Mapping[str, SimulatedStage], n_devices: int, n_workers: int | None = None) -> Schedule:
    """Schedule `stages` (in order, by name) on `n_devices` devices; none may need more than there are.

    At most `n_workers` that hold devices run at once, and as many that hold none; any number without it.
    """
    assert all(stage.devices <= n_devices for stage in stages.values()), "a stage needs more devices than there are"
    waits_for = {name: {one for one in stage.inputs if one in stages} for name, stage in stages.items()}
    dependents: dict[str, list[str]] = defaultdict(list)
    for name, needs in waits_for.items():
        for need in needs:
            dependents[need].append(name)
    ready = _Ready(stages)
    for name in [name for name, needs in waits_for.items() if not needs]:
        ready.add(name)
    ends_s: dict[str, float] = {}
    running: list[tuple[float, str]] = []
    free, now_s = n_devices, 0.0
    workers = dict.fromkeys((True, False), len(stages) if n_workers is None else n_workers)  # by: holds devices
    while ready or running:
        while (started := ready.take(free, workers)) is not None:
            holds = stages[started].devices
            free -= holds
            workers[holds > 0] -= 1
            heapq.heappush(running, (now_s + stages[started].duration_s, started))
        now_s, name = heapq.heappop(running)
        ends_s[name] = now_s
        free += stages[name].devices
        workers[stages[name].devices > 0] += 1
        for dependent in dependents[name]:
            waits_for[dependent].discard(name)
            if not waits_for[dependent]:
                ready.add(dependent)
    assert len(ends_s) == len(stages), "the graph has a cycle"
    return Schedule(ends_s, sum(stage.duration_s * stage.devices for stage in stages.values()))


class _Ready:
    """Stages that could start, by the devices they need: the earliest in the graph's order that fits is next."""

    def __init__(self, stages: Mapping[str, SimulatedStage]) -> None:
        self._names = list(stages)
        self._order = {name: number for number, name in enumerate(stages)}
        self._stages = stages
        self._queues: dict[int, list[int]] = defaultdict(list)

    def __bool__(self) -> bool:
        return any(self._queues.values())

    def add(self, name: str) -> None:
        heapq.heappush(self._queues[self._stages[name].devices], self._order[name])

    def take(self, free: int, workers: Mapping[bool, int]) -> str | None:
        """The next stage for `free` devices and `workers` that are idle, by whether it holds devices; or None."""
        fitting = [
            (queue[0], devices)
            for devices, queue in self._queues.items()
            if queue and devices <= free and workers[devices > 0] > 0
        ]
        if not fitting:
            return None
        return self._names[heapq.heappop(self._queues[min(fitting)[1]])]
