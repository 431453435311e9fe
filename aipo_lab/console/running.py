"""What every command that runs stages shares: how a run ended, what is said when it stops, signals."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.console import Console

from aipo_lab.console.display import spent_text
from aipo_lab.judging.ledger import SharedBudget

EXIT_INTERRUPTED = 130


@dataclass
class RunOutcome:
    """How a run ended; `unwritten`: why a file of the output folder could not be written, by its name."""

    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    unwritten: dict[str, str] = field(default_factory=dict)


class _StopSignals:
    """Ctrl-C and SIGTERM: the first ends the work in order, a further one ends the process at once."""

    def __init__(self) -> None:
        self.stopping = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self.stopping:
            # What is in the store is whole at any moment, and so is every file; workers end when this process does.
            os.write(2, b"\nstopped at once; nothing finished is lost\n")
            os._exit(EXIT_INTERRUPTED)
        self.stopping = True
        raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM raises `KeyboardInterrupt` in the block; from then on a further one ends the process
    at once, also while the work is being ended and after the block."""
    signals = _StopSignals()
    previous = {number: signal.signal(number, signals.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not signals.stopping:
            for number, handler in previous.items():
                signal.signal(number, handler)


def command_text(program: str, *arguments: str | Path) -> str:
    """A command as it can be pasted into a shell."""
    return shlex.join([program, *map(str, arguments)])


def say(console: Console, text: str) -> None:
    """Print text as it is: names in it may look like markup, and a path must not be broken."""
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def say_stopped(console: Console, program: str) -> None:
    """What a person reads after Ctrl-C: how to go on."""
    say(
        console,
        f"\nstopped; nothing finished is lost. Resume with:\n  {command_text(program, *sys.argv[1:])}",
    )


def say_unwritten(console: Console, outcome: RunOutcome, folder: Path, store: Path, program: str) -> None:
    """What could not be written into the output folder, and how to make up for it."""
    if not outcome.unwritten:
        return
    for name, reason in outcome.unwritten.items():
        say(console, f"cannot write {folder / name}: {reason}")
    say(
        console,
        f"all results are in the store {store}; when there is room, write them with:\n"
        f"  {command_text(program, 'report', folder)}",
    )


def say_spent(console: Console, budget: SharedBudget) -> None:
    """What judges were asked and cost in the end."""
    console.print(f"judges: {spent_text(budget)}", highlight=False)
