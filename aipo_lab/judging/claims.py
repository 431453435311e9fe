"""Claims: of all threads and processes that share a call store, one at a time makes a call.

One byte of one file stands for one call and is locked by the operating system, so a killed owner holds nothing. A
lock file per call would double the store's files and cost more time than all else the client does (perf/judging.py);
it stands for the byte only where the file system has no such locks, and goes when the claim ends.
"""

from __future__ import annotations

import fcntl
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aipo_lab.core.locks import owner_file, record_locks_work, tell_of_owner
from aipo_lab.core.owner_files import OwnerFile

LONG_S = 60.0
"""A claim that stands for an owner's file is told of if it is refused for so long."""

_CLAIMS: dict[tuple[int, int], Claims] = {}
_CLAIMS_LOCK = threading.Lock()


class Claims:
    """The claims on one file, of which a process has one object: record locks do not hold between its threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._native = record_locks_work(path.parent)
        self._descriptor = os.open(path, os.O_RDWR)  # stays open: closing it would drop the locks of all threads
        self._held: dict[int, OwnerFile | None] = {}
        self._refused_since_s: dict[int, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def claim(self, call: str) -> Iterator[bool]:
        """Whether the caller may make the call (a hash in hexadecimal) until the block ends; never waits."""
        byte = int(call[:15], 16)
        claimed = self.take(byte)
        try:
            yield claimed
        finally:
            if claimed:
                self.give_back(byte)

    def take(self, byte: int) -> bool:
        """Whether the caller may have this byte until it gives it back; never waits."""
        with self._lock:
            if byte in self._held:
                return False
            if not self._native:
                return self._take_owner_file(byte)
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):  # POSIX leaves the choice of the two
                return False
            self._held[byte] = None
            return True

    def give_back(self, byte: int) -> None:
        """End a claim."""
        with self._lock:
            owner = self._held.pop(byte)
            if owner is None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, byte)
            else:
                owner.give_back()

    def _take_owner_file(self, byte: int) -> bool:
        owner = owner_file(self._path.with_name(f"{self._path.name}-{byte:x}"))
        if not owner.take():
            since_s = self._refused_since_s.setdefault(byte, time.monotonic())
            if time.monotonic() - since_s >= LONG_S:
                self._refused_since_s[byte] = math.inf  # said once
                tell_of_owner(owner.path)
            return False
        self._refused_since_s.pop(byte, None)
        self._held[byte] = owner
        return True


def claims_on(path: Path) -> Claims:
    """The process's claims on the file, which is made if it is not there."""
    path.touch()
    status = path.stat()
    with _CLAIMS_LOCK:
        key = (status.st_dev, status.st_ino)
        if key not in _CLAIMS:
            _CLAIMS[key] = Claims(path)
        return _CLAIMS[key]


os.register_at_fork(after_in_child=_CLAIMS.clear)  # a child inherits no locks
