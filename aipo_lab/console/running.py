"""What every command that runs stages shares: how a run ended, what is said when it stops, signals."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from typing import Any, NoReturn

from rich.console import Console

from aipo_lab.console.display import spent_text
from aipo_lab.judging.ledger import SharedBudget


@dataclass
class RunOutcome:
    """How a run ended."""

    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def say_stopped(console: Console, program: str) -> None:
    """What a person reads after Ctrl-C: how to go on."""
    again = shlex.join([program, *sys.argv[1:]])
    console.print(f"\nstopped; nothing finished is lost. Resume with:\n  {again}", highlight=False, soft_wrap=True)


def say_spent(console: Console, budget: SharedBudget) -> None:
    """What judges were asked and cost in the end."""
    console.print(f"judges: {spent_text(budget)}", highlight=False)


def raise_interrupt(*_: Any) -> NoReturn:
    """A signal handler: ends the work as Ctrl-C does."""
    raise KeyboardInterrupt
