"""Which devices of this machine are free, and which stages of those that wait may have them."""

from __future__ import annotations

import threading

from aipo_lab.stages.devices import Demand


class Places:
    """What running stages hold: devices, and the workers that run them.

    At most `workers` stages that hold devices run side by side, and beside them as many that hold none: what asks
    judges for hours keeps no device idle.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._running = {True: 0, False: 0}
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def has_room(self, demand: Demand) -> bool:
        """Whether a stage could start now."""
        with self._lock:
            return self._running[demand.n_devices > 0] < self._workers and len(self._free(demand)) >= demand.n_devices

    def take(self, demand: Demand) -> tuple[str, ...]:
        """Hold what a stage needs; returns its devices. There must be room."""
        assert self.has_room(demand), f"no room for {demand}"
        with self._lock:
            names = self._free(demand)[: demand.n_devices]
            self._held.update(names)
            self._running[demand.n_devices > 0] += 1
            return names

    def release(self, names: tuple[str, ...]) -> None:
        """Give back what `take` returned."""
        with self._lock:
            self._held.difference_update(names)
            self._running[bool(names)] -= 1

    def _free(self, demand: Demand) -> tuple[str, ...]:
        return tuple(name for name in demand.names if name not in self._held)
