"""What an executor is: it takes stages whose inputs are in the store and runs them somewhere."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

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
