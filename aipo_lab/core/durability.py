"""Files that are still whole after a power cut: flush content and folders, then rename, then flush the parent.

A rename is durable only once the folder that holds the name is flushed, and it may reach the disk before the content it
names unless that was flushed first. Everything the lab publishes goes through here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

FOLDER_FLUSH_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})
"""What network file systems that keep names durable on their own answer to the flush of a folder."""


def flush(path: str | Path) -> None:
    """Flush one file, or the names in one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in FOLDER_FLUSH_UNSUPPORTED or not os.path.isdir(path):  # noqa: PTH112 - str or Path
            raise
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Flush every file and every folder below `folder`, and `folder` itself last; links are not followed."""
    for inside, folders, files in os.walk(folder, topdown=False):
        _flush_all(Path(inside, name) for name in files)
        _flush_all(Path(inside, name) for name in folders)
    flush(folder)


def rename_into_place(source: str | Path, target: str | Path) -> None:
    """Rename what is flushed already over `target`, and flush the parent: the new name lasts, or the old one does."""
    os.replace(source, target)
    flush(Path(target).parent)


def make_folders(folder: Path) -> None:
    """Make a folder with its parents, each flushed into the one above it; nothing happens to those that exist."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    flush(folder.parent)


def share_by_umask(folder: Path) -> None:
    """Give all below `folder` the permissions that the umask gave `folder` itself.

    Some libraries (safetensors) write through temporary files that only their owner may read.
    """
    allowed = folder.stat().st_mode & 0o777
    for inside, folders, files in os.walk(folder):
        for name in folders:
            _allow(Path(inside, name), allowed)
        for name in files:
            _allow(Path(inside, name), allowed & 0o666)


def _allow(path: Path, allowed: int) -> None:
    status = path.lstat()
    if not path.is_symlink() and allowed & ~status.st_mode:
        path.chmod(status.st_mode & 0o7777 | allowed)


def _flush_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            flush(path)
