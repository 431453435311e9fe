"""Executors: where stages run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aipo_lab.core.store import Store
    from aipo_lab.execution.executor import Executor

EXECUTOR_NAMES = ("inline",)


def make_executor(name: str, store: Store, workers: int) -> Executor:
    """The executor called `name`, running up to `workers` stages side by side."""
    from aipo_lab.execution.inline import InlineExecutor

    assert name in EXECUTOR_NAMES, name
    return InlineExecutor(store, workers)
