"""Which stages of a graph are left to run, what each of them waits for, and which one is next."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode
from aipo_lab.stages.devices import Demand, demand_of

MOST_LOSSES = 2
"""Times an artifact may be found damaged in one run: whatever is damaged a third time will be so a fourth."""

PATIENCE = 16
"""Stages with devices that may overtake one that waits for more of them; then devices are kept free for it."""


class PendingStages:
    """The stages of `known` (inputs before what needs them) that are left to run; of those that can, the first is next.

    A stage is pending from `add` until `finished` or `failed`, also while it runs.
    """

    def __init__(self, store: Store, known: Mapping[str, StageNode]) -> None:
        self._store = store
        self._known = known
        self._references = list(known)
        self._order = {reference: position for position, reference in enumerate(known)}
        self._pending: set[str] = set()
        self._waits_for: dict[str, set[str]] = {}
        self._dependents: dict[str, set[str]] = defaultdict(set)
        self._ready: dict[Demand, list[int]] = defaultdict(list)
        self._overtaken: Counter[int] = Counter()
        self._losses: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether a stage has all its inputs and waits for nothing but room."""
        return any(self._ready.values())

    def add(self, references: Iterable[str]) -> None:
        """Stages to run, with whatever of them they need."""
        added = list(references)
        self._pending.update(added)
        for reference in added:
            self._wait(reference)

    def take(self, has_room: Callable[[StageNode], bool] = lambda _: True) -> StageNode | None:
        """The next stage that can start, the first in the graph's order that there is room for; None if there is none.

        A stage that needs many devices is overtaken by those that find room, but not for ever (`PATIENCE`).
        """
        heads = sorted((queue[0], demand) for demand, queue in self._ready.items() if queue)
        waiting: list[int] = []
        for position, demand in heads:
            node = self._known[self._references[position]]
            if has_room(node):
                heapq.heappop(self._ready[demand])
                self._overtaken.pop(position, None)
                if demand.n_devices:
                    self._overtaken.update(waiting)
                return node
            if demand.n_devices and self._overtaken[position] >= PATIENCE:
                return self._first_without_devices(heads, has_room)
            waiting += [position] if demand.n_devices else []
        return None

    def _first_without_devices(
        self, heads: list[tuple[int, Demand]], has_room: Callable[[StageNode], bool]
    ) -> StageNode | None:
        for position, demand in heads:
            node = self._known[self._references[position]]
            if not demand.n_devices and has_room(node):
                heapq.heappop(self._ready[demand])
                return node
        return None

    def finished(self, reference: str) -> None:
        """The artifact is in the store."""
        self._pending.discard(reference)
        for dependent in self._dependents.pop(reference, ()):
            waits_for = self._waits_for.get(dependent)
            if waits_for is not None:
                waits_for.discard(reference)
                self._start_if_free(dependent)

    def failed(self, reference: str) -> list[str]:
        """The artifact will not be made; returns all that is dropped because it needs it."""
        self._pending.discard(reference)
        dropped: list[str] = []
        culprits = [reference]
        while culprits:
            for dependent in sorted(self._dependents.pop(culprits.pop(), ()), key=self._order.__getitem__):
                if self._waits_for.pop(dependent, None) is not None:
                    self._pending.discard(dependent)
                    dropped.append(dependent)
                    culprits.append(dependent)
        return dropped

    def again(self, reference: str, lost: str) -> bool:
        """Let a stage that could not start wait until its input `lost` is made again, with what that needs.

        False if that cannot be: `lost` is no stage of this graph, failed in this run, or is damaged again and again.
        """
        self._losses[lost] += lost not in self._pending
        if lost not in self._known or self._losses[lost] > MOST_LOSSES:
            return False
        if not self._store.contains(*lost.split("/")):
            self.add(sorted(self._to_make(lost), key=self._order.__getitem__))
        self._wait(reference)
        return True

    def _to_make(self, lost: str) -> set[str]:
        """`lost` and whatever of its inputs, and theirs, is neither in the store nor pending."""
        found: set[str] = set()
        left = [lost]
        while left:
            reference = left.pop()
            if reference in found or reference in self._pending or reference not in self._known:
                continue
            node = self._known[reference]
            if not self._store.contains(node.stage, node.key):
                found.add(reference)
                left += node.request.inputs.values()
        return found

    def _wait(self, reference: str) -> None:
        needs = {name for name in self._known[reference].request.inputs.values() if name in self._pending}
        self._waits_for[reference] = needs
        for need in needs:
            self._dependents[need].add(reference)
        self._start_if_free(reference)

    def _start_if_free(self, reference: str) -> None:
        if not self._waits_for[reference]:
            del self._waits_for[reference]
            heapq.heappush(self._ready[demand_of(self._known[reference])], self._order[reference])
