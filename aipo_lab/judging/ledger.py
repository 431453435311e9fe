"""A budget that the processes of one command share, kept in one small file.

Every operation takes the file's lock, reads the state and writes the new one beside the old: of two slots the one
with the higher number counts if its checksum is right, so a process killed while it writes leaves the state before.
Amounts are whole picodollars in there: sums are exact, and a settled reservation leaves no remainder.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aipo_lab.core.errors import UserError
from aipo_lab.core.locks import momentary_lock
from aipo_lab.core.process_identity import is_alive, is_running, this_process

PICODOLLARS = 10**12
"""In one dollar; a token costs millions of them."""
SLOT_BYTES = 1 << 16
"""Room for the rows of a thousand processes; the file is sparse."""
HEADER = struct.Struct("<QII")
"""Of a slot: number of the write, bytes of content, checksum of number and content."""
NAME_START = ".judge-costs-"
"""Of the files of commands; machine and process of the command follow."""


@dataclass
class _State:
    """What a slot holds. `reserved`: by owner, the picodollars it has set aside and for how many calls."""

    limit_usd: float | None
    started_s: float
    spent: int = 0
    lost: int = 0
    beyond: int = 0
    n_calls: int = 0
    reserved: dict[str, list[int]] = field(default_factory=dict)

    def fits(self, reserved: int) -> bool:
        """Whether that much may be reserved beside what is spent and lost."""
        return self.limit_usd is None or self.spent + self.lost + reserved <= _picodollars(self.limit_usd)

    def is_untried(self) -> bool:
        """Whether there is a limit and nothing was billed so far."""
        return self.limit_usd is not None and not self.spent and not self.lost

    def total_reserved(self) -> int:
        """Of all owners together."""
        return sum(amount for amount, _ in self.reserved.values())

    def give_up_dead_owners(self) -> None:
        """Move what nobody can settle any more from reserved to lost."""
        for owner in [owner for owner in self.reserved if not is_alive(owner)]:
            self.lost += self.reserved.pop(owner)[0]


class SharedBudget:
    """A `Budget` (same interface) for any number of processes of one machine and their threads.

    The command's first process makes the file, the others open it by its path. What a process had reserved when it
    died may have been billed: it counts against the limit for good, as `lost_usd`, as calls without an answer do. Every
    operation raises `UserError` if the file cannot be used any more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._locked() as state:
            self.limit_usd = state.limit_usd
            self.started_s = state.started_s

    @classmethod
    def create(cls, path: Path, limit_usd: float | None) -> SharedBudget:
        """Start a ledger in a new file; raises `FileExistsError`, as a second command must not reset the first's."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write(descriptor, 0, _content(_State(limit_usd, time.time())))
        finally:
            os.close(descriptor)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> SharedBudget:
        """The ledger that another process created."""
        return cls(path)

    @property
    def spent_usd(self) -> float:
        """What all settled calls cost."""
        with self._locked() as state:
            return state.spent / PICODOLLARS

    @property
    def lost_usd(self) -> float:
        """See `Purse.lost_usd`."""
        with self._locked(change=True) as state:
            state.give_up_dead_owners()
            return state.lost / PICODOLLARS

    @property
    def beyond_usd(self) -> float:
        """See `Purse.beyond_usd`."""
        with self._locked() as state:
            return state.beyond / PICODOLLARS

    @property
    def n_calls(self) -> int:
        """How many calls were answered."""
        with self._locked() as state:
            return state.n_calls

    @property
    def has_reservations(self) -> bool:
        """Whether calls are under way in a living process, whose unused share will become free."""
        with self._locked(change=True) as state:
            if this_process() not in state.reserved:
                state.give_up_dead_owners()
            return bool(state.reserved)

    def could_pay(self, most_usd: float) -> bool:
        """See `Purse.could_pay`."""
        with self._locked(change=True) as state:
            state.give_up_dead_owners()
            return state.fits(_picodollars(most_usd))

    def reserve(self, most_usd: float, *, first_alone: bool = False) -> bool:
        """See `Purse.reserve`."""
        most = _picodollars(most_usd)
        with self._locked(change=True) as state:
            if first_alone and most and state.is_untried() and state.reserved:
                return False
            if not state.fits(state.total_reserved() + most):
                return False
            amount, calls = state.reserved.get(this_process(), [0, 0])
            state.reserved[this_process()] = [amount + most, calls + 1]
            return True

    def settle(
        self,
        reserved_usd: float,
        spent_usd: float,
        *,
        lost_usd: float = 0.0,
        beyond_usd: float = 0.0,
        answered: bool = True,
    ) -> None:
        """See `Purse.settle`; to be called by the process that reserved."""
        with self._locked(change=True) as state:
            amount, calls = state.reserved.pop(this_process())
            if calls > 1:
                state.reserved[this_process()] = [amount - _picodollars(reserved_usd), calls - 1]
            state.spent += _picodollars(spent_usd)
            state.lost += _picodollars(lost_usd)
            state.beyond = max(state.beyond, _picodollars(beyond_usd))
            state.n_calls += answered

    @contextmanager
    def _locked(self, *, change: bool = False) -> Iterator[_State]:
        """The state; with `change`, what the block makes of it is written if it ends well.

        The file is opened anew each time: a descriptor that lives on would share its lock with forked children.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except OSError as error:
            raise self._unusable(error.strerror) from None
        try:
            with momentary_lock(descriptor, self.path, shared=not change):
                number, content = self._newest(descriptor)
                state = _State(**json.loads(content))
                yield state
                if change and (changed := _content(state)) != content:
                    _write(descriptor, number + 1, changed)
        except OSError as error:
            raise self._unusable(error.strerror) from None
        finally:
            os.close(descriptor)

    def _newest(self, descriptor: int) -> tuple[int, bytes]:
        slots = [slot for slot in (_read(descriptor, 0), _read(descriptor, 1)) if slot is not None]
        if not slots:
            raise self._unusable("its content is damaged")
        return max(slots)

    def _unusable(self, reason: str | None) -> UserError:
        return UserError(
            f"the file that counts the cost of judge calls, {self.path}, cannot be used: {reason}; without it no limit "
            "can be kept, so no more calls are made. Run the same command again: stored replies are not paid twice"
        )


def ledger_path(folder: Path) -> Path:
    """Where this process keeps the ledger of its command, if it keeps it in `folder`."""
    return folder / f"{NAME_START}{socket.gethostname()}-{os.getpid()}.json"


@contextmanager
def command_ledger(path: Path, limit_usd: float | None) -> Iterator[SharedBudget]:
    """A new ledger at `ledger_path` while the block runs; those beside it whose commands were killed go."""
    remove_abandoned(path.parent)
    path.unlink(missing_ok=True)  # it bears this process's number: an earlier process with that number is gone
    try:
        yield SharedBudget.create(path, limit_usd)
    finally:
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Delete the ledgers in `folder` whose commands were killed on this machine: only they would have done it."""
    for path in folder.glob(f"{NAME_START}*.json"):
        host, _, pid = path.stem.removeprefix(NAME_START).rpartition("-")
        if host == socket.gethostname() and pid.isdigit() and not is_running(int(pid)):
            path.unlink(missing_ok=True)


def _picodollars(usd: float) -> int:
    return round(usd * PICODOLLARS)


def _content(state: _State) -> bytes:
    return json.dumps(vars(state)).encode()


def _read(descriptor: int, slot: int) -> tuple[int, bytes] | None:
    """Number and content of a slot; None if it was never written to its end."""
    header = os.pread(descriptor, HEADER.size, slot * SLOT_BYTES)
    if len(header) < HEADER.size:
        return None
    number, n_bytes, checksum = HEADER.unpack(header)
    content = os.pread(descriptor, min(n_bytes, SLOT_BYTES), slot * SLOT_BYTES + HEADER.size)
    return (number, content) if content and _checksum(number, content) == checksum else None


def _write(descriptor: int, number: int, content: bytes) -> None:
    """Write over the state before last."""
    slot = HEADER.pack(number, len(content), _checksum(number, content)) + content
    assert len(slot) <= SLOT_BYTES, "too many processes for one ledger"
    if os.pwrite(descriptor, slot, number % 2 * SLOT_BYTES) < len(slot):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _checksum(number: int, content: bytes) -> int:
    return zlib.crc32(content, number & 0xFFFFFFFF)
