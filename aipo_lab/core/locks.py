"""Locks between processes: one file each, held until the block ends or its process dies.

The lock is the operating system's (`flock`), so a killed owner holds nothing. Where the file system has none, a marker
file stands for it that names its owner's machine and process: an owner that died on this machine is replaced; one that
died on another machine is not, and whoever waits is told which file to remove.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from aipo_lab.core.durability import make_folders

logger = logging.getLogger(__name__)

NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})


@contextmanager
def exclusive_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock named by `path` inside the block; `on_wait` is called once if another process has it."""
    from filelock import FileLock, SoftFileLock, Timeout

    make_folders(path.parent)
    native = flock_works(path.parent)
    lock = FileLock(path) if native else SoftFileLock(path.with_name(f"{path.name}.owner"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        if not native:
            logger.warning(
                "waiting for the owner of %s; if that process is dead on another machine, remove the file",
                lock.lock_file,
            )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@cache
def flock_works(folder: Path) -> bool:
    """Whether the folder's file system has locks of its own; says so once where it has not."""
    probe = folder / f".probe-{os.getpid()}"
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_FLOCK:
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
