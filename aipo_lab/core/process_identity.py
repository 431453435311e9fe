"""Which process something belongs to, and whether it still runs: ids alone do not tell, as they are used again."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

PROCESSES = Path("/proc")


@cache
def this_process() -> str:
    """This process among all of its machine: its id and when it started."""
    return process_of(os.getpid())


os.register_at_fork(after_in_child=this_process.cache_clear)


def process_of(pid: int) -> str:
    """The process that has the id now; raises `ProcessLookupError` if none has."""
    return f"{pid} {_state_and_start(pid)[1]}"


def is_alive(process: str) -> bool:
    """Whether a process of this machine still runs; one that only waits to be reaped does not."""
    pid, start = process.split()
    try:
        state, started = _state_and_start(int(pid))
    except ProcessLookupError:
        return False
    return state not in "ZX" and started == start


def is_running(pid: int) -> bool:
    """Whether a process has this id, be it another one than the id was once given to."""
    try:
        return _state_and_start(pid)[0] not in "ZX"
    except ProcessLookupError:
        return False


def _state_and_start(pid: int) -> tuple[str, str]:
    """The letter of the process's state, and its start in clock ticks; raises `ProcessLookupError`."""
    if not PROCESSES.exists():  # not Linux: all that can be had is whether the id is in use
        with suppress(PermissionError):
            os.kill(pid, 0)
        return "R", "0"
    try:
        fields = (PROCESSES / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    return fields[0].decode(), fields[19].decode()
