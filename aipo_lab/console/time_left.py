"""Durations as a person says them, and an estimate of the time left."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import fmean

from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.plan import SweepGraph


class TimeEstimate:
    """Time left, from the mean duration of each stage so far."""

    def __init__(self, graph: SweepGraph, store: Store, capacity: int) -> None:
        self.store = store
        self.capacity = capacity
        self.durations_s: dict[str, list[float]] = defaultdict(list)
        self.left: Counter[str] = Counter()
        for node in graph.nodes.values():
            artifact = store.find(node.stage, node.key)
            if artifact is None:
                self.left[node.stage] += 1
            else:
                self.durations_s[node.stage].append(artifact.duration_s)

    def finished(self, node: StageNode, duration_s: float) -> None:
        """A stage took `duration_s`."""
        self.left[node.stage] -= 1
        self.durations_s[node.stage].append(duration_s)

    def left_s(self) -> float | None:
        """Seconds left, or None while stages are left of which none has run yet."""
        open_stages = [stage for stage, count in self.left.items() if count > 0]
        if any(not self.durations_s[stage] for stage in open_stages):
            return None
        return sum(self.left[stage] * fmean(self.durations_s[stage]) for stage in open_stages) / self.capacity


def format_duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `2 min 05 s`, `3 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
