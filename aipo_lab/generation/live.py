"""Engines that live in processes of their own: kept for the next stage with the same weights, stopped for others.

A process keeps one at a time. Whoever needs the memory (a training, other weights) stops it; so does the process's end.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

from aipo_lab.generation.engine import Engine
from aipo_lab.models.policy import POLICIES


class LiveEngine(Engine, Protocol):
    """An engine that holds memory until it is stopped."""

    @property
    def is_alive(self) -> bool:
        """Whether it can generate."""
        ...

    def stop(self) -> None:
        """End it and wait until its memory is back; more than once does no harm."""
        ...


E = TypeVar("E", bound=LiveEngine)

_ALIVE: dict[Hashable, LiveEngine] = {}


def live_engine(key: Hashable, start: Callable[[], E]) -> E:
    """The engine that this process has for `key`, or a new one in place of whatever it has."""
    found = _ALIVE.get(key)
    if found is None or not found.is_alive:
        stop_live_engines()
        POLICIES.clear()  # an engine takes what is free of a device when it starts
        _ALIVE[key] = found = start()
    return found  # type: ignore[return-value]  # a key says of which kind it is


def stop_live_engines() -> None:
    """Stop what is alive; its memory is back when this returns."""
    while _ALIVE:
        _, engine = _ALIVE.popitem()
        engine.stop()


atexit.register(stop_live_engines)
