"""What an executor is: it takes stages whose inputs are in the store and runs them somewhere; and their registry.

Importing a module of this folder registers its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from aipo_lab.core.registry import Definition, Registry
from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode


@dataclass(frozen=True)
class StageProgress:
    """How far a running stage is; `total` 0 means unknown."""

    done: int = 0
    total: int = 0
    unit: str = ""


ProgressSink = Callable[[StageNode, StageProgress], None]


class Executor(Protocol):
    """Runs stages. A future's result is the seconds of work; its exception is why the stage failed."""

    @property
    def capacity(self) -> int:
        """How many stages run side by side."""
        ...

    def submit(self, node: StageNode, on_progress: ProgressSink) -> Future[float]:
        """Start a stage whose inputs are in the store. `on_progress` is called from any thread."""
        ...

    def shutdown(self) -> None:
        """Stop at once what is running and free everything. Parts already committed stay."""
        ...


@runtime_checkable
class DividesDevices(Protocol):
    """An executor that knows what a stage has to hold; one that does not takes any stage, up to its capacity."""

    def has_room(self, node: StageNode) -> bool:
        """Whether the stage could start now, beside what runs."""
        ...


@dataclass(frozen=True, kw_only=True)
class ExecutorDefinition(Definition):
    """A registered executor: `make(store, workers)` runs up to `workers` stages side by side."""

    make: Callable[[Store, int], Executor]


EXECUTORS: Registry[ExecutorDefinition] = Registry("executor", "aipo_lab.executors", "aipo_lab.execution")


def make_executor(name: str, store: Store, workers: int) -> Executor:
    """The executor called `name`.

    Raises `UserError` listing the valid names and `MissingDependency` if its package is not here.
    """
    definition = EXECUTORS.get(name)
    definition.check_installed(f"executor {name}")
    return definition.make(store, workers)
