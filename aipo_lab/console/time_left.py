"""Durations as a person says them, and an estimate of the time left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode
from aipo_lab.stages.stored import find_stored
from aipo_lab.sweeps.plan import SweepGraph, known_durations


@dataclass
class _Mean:
    count: int = 0
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total_s += seconds


class TimeEstimate:
    """Time left, from the mean duration of each stage so far."""

    def __init__(self, graph: SweepGraph, store: Store, capacity: int) -> None:
        self.store = store
        self.capacity = capacity
        self.stored = find_stored(graph.nodes.values(), store)
        self.left = Counter(node.stage for reference, node in graph.nodes.items() if reference not in self.stored)
        self.means: dict[str, _Mean] = {}
        for stage, durations_s in known_durations(graph, store, self.stored).items():
            self.means[stage] = _Mean(len(durations_s), sum(durations_s))

    def finished(self, node: StageNode, duration_s: float) -> None:
        """A stage took `duration_s`."""
        self.left[node.stage] -= 1
        self.means.setdefault(node.stage, _Mean()).add(duration_s)

    def left_s(self) -> float | None:
        """Seconds left, or None while stages are left of which none has run yet."""
        open_stages = [stage for stage, count in self.left.items() if count > 0]
        if any(stage not in self.means for stage in open_stages):
            return None
        seconds = sum(self.left[one] * self.means[one].total_s / self.means[one].count for one in open_stages)
        return seconds / self.capacity


def format_duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `2 min 05 s`, `3 h 10 min`, `12 d 15 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole >= 3 * 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
