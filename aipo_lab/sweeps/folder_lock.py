"""A lock in an output folder, on every filesystem: the operating system's where it has one, else a file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aipo_lab.core.errors import UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock

CLAIM_TIMEOUT_S = 60.0


def try_lock(path: Path, timeout_s: float = 0.0) -> BaseFileLock | None:
    """The lock at `path`, held by this process until it ends; None if another holds it longer than `timeout_s`.

    Network and fuse filesystems may have no `flock`; there the lock is a file that names its owner, and one whose
    owner is gone is replaced. Raises `OSError` where no file can be made.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    try:
        try:
            lock: BaseFileLock = FileLock(path)
            lock.acquire(timeout=timeout_s)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, Timeout | PermissionError):
                raise
            # Another name: what tried for the system's lock may have left its file, which must not look like a held one
            lock = SoftFileLock(path.with_name(f"{path.name}-owner"))
            lock.acquire(timeout=timeout_s)
    except Timeout:
        return None
    return lock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path` while the block runs; raises `UserError` if another process keeps it for a minute."""
    lock = try_lock(path, CLAIM_TIMEOUT_S)
    if lock is None:
        raise UserError(
            f"another process has held {path} for {CLAIM_TIMEOUT_S:g} s; try again, and if no aipo-lab is starting "
            f"in that folder, delete {path.name}* there"
        )
    try:
        yield
    finally:
        lock.release()
