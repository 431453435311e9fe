"""Locks between processes: one file each, held until the block ends or its process dies.

The lock is the operating system's, so a killed owner holds nothing. Where the file system has none, a file stands for
it that names its owner's machine and process: an owner that died on this machine is replaced; one that died on another
machine is not, and whoever waits is told which file to remove.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from aipo_lab.core.durability import make_folders
from aipo_lab.core.owner_files import OwnerFile

logger = logging.getLogger(__name__)

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})
"""What file systems without locks answer."""
POLL_S = 0.05
MOMENT_POLL_S = 0.002
MOMENT_S = 5.0
"""A lock that is held for a moment at a time is free again before that."""


@contextmanager
def exclusive_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock named by `path` inside the block; `on_wait` is called once if another process has it."""
    with _held(path, math.inf, on_wait, hint_after_s=0.0):
        yield


@contextmanager
def lock_within(path: Path, timeout_s: float) -> Iterator[bool]:
    """Hold the lock named by `path` inside the block if it is free within `timeout_s` seconds; whether it is held."""
    with _held(path, timeout_s, lambda: None, hint_after_s=min(timeout_s, MOMENT_S)) as held:
        yield held


@contextmanager
def momentary_lock(descriptor: int, path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of the open file at `path` for a moment; `shared` with others that only read.

    Where the file system has no locks nothing is shared, and readers wait for each other.
    """
    if not flock_works(path.parent):
        with _owned(path, math.inf, lambda: None, hint_after_s=MOMENT_S, poll_s=MOMENT_POLL_S):
            yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # at once, even if a fork just now copied the descriptor


def owner_file(path: Path) -> OwnerFile:
    """What stands for the system's lock at `path`: a file beside it that names its owner."""
    return OwnerFile(path.with_name(f"{path.name}.owner"))


def tell_of_owner(path: Path) -> None:
    """Warn that a lock is held by an owner that may never let go."""
    logger.warning("another process holds %s; if it is dead on another machine, remove the file", path)


@contextmanager
def _held(path: Path, timeout_s: float, on_wait: Callable[[], None], hint_after_s: float) -> Iterator[bool]:
    from filelock import FileLock, Timeout

    make_folders(path.parent)
    if not flock_works(path.parent):
        with _owned(path, timeout_s, on_wait, hint_after_s, POLL_S) as held:
            yield held
        return
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        with suppress(Timeout):
            lock.acquire(timeout=-1 if math.isinf(timeout_s) else timeout_s)
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def _owned(
    path: Path, timeout_s: float, on_wait: Callable[[], None], hint_after_s: float, poll_s: float
) -> Iterator[bool]:
    owner, started_s, told = owner_file(path), time.monotonic(), False
    held = owner.take()
    if not held:
        on_wait()
    while not held:
        waited_s = time.monotonic() - started_s
        if not told and waited_s >= hint_after_s:
            tell_of_owner(owner.path)
            told = True
        if waited_s >= timeout_s:
            break
        time.sleep(poll_s)
        held = owner.take()
    try:
        yield held
    finally:
        if held:
            owner.give_back()


@cache
def flock_works(folder: Path) -> bool:
    """Whether the folder's file system has locks of whole files; says so once where it has not."""
    return _works(folder, lambda descriptor: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))


@cache
def record_locks_work(folder: Path) -> bool:
    """Whether the folder's file system has locks of parts of files; says so once where it has not."""
    return _works(folder, lambda descriptor: fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0))


def _works(folder: Path, lock: Callable[[int], object]) -> bool:
    probe = folder / f".probe-{os.getpid()}"
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lock(descriptor)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logger.warning(
            "%s has no file locks (%s): files that name their owner stand for them; an owner that dies on another "
            "machine must be removed by hand",
            folder,
            error.strerror,
        )
        return False
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)
    return True
