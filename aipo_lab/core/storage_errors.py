"""What a person can mend about a place that cannot be written to: a full disk, missing permission, a failing disk,
a network that lost a file, something that lies where something else should be."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aipo_lab.core.errors import UserError

_ALWAYS = {  # what `write` fails with names no file
    errno.ENOSPC: "there is no space left on the device; make room",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EROFS: "the file system is read-only; permit writing",
    errno.EIO: "the disk reports an error; check it",
    errno.ESTALE: "the network file system has lost a file that was open; mount it again",
}
_UNDER_ROOT = {
    errno.EACCES: "permission is denied; permit writing",
    errno.EPERM: "the operation is not permitted; permit writing",
    errno.EEXIST: "a file is where a folder should be; move it away",
    errno.ENOTDIR: "a file is where a folder should be; move it away",
    errno.EISDIR: "a folder is where a file should be; move it away",
    errno.ENOTEMPTY: "another process has put something there meanwhile; leave the place to one",
    errno.EBUSY: "something there is in use (a mount, or a file that another machine has open); let it go",
    errno.EXDEV: "a folder inside it is on another file system; keep it on one",
    errno.ENAMETOOLONG: "a name is too long for its file system; permit longer ones",
    errno.ELOOP: "links go round in a circle; remove one",
}
"""Said when a file is opened, whose name the error has, or a folder is made or renamed."""
_TEXTS = {"no space left on device": errno.ENOSPC, "os error 28": errno.ENOSPC, "disk quota": errno.EDQUOT}
"""How libraries that write by themselves (safetensors) put it into errors of their own."""


@contextmanager
def storage_errors(root: Path, what: str, option: str) -> Iterator[None]:
    """Turn errors of the place `root` (called `what`, chosen by `option`) into a `UserError`; others pass."""
    try:
        yield
    except Exception as error:
        reason = storage_problem(error, root)
        if reason is None or isinstance(error, UserError):
            raise
        raise UserError(
            f"cannot write to the {what} {root}: {reason}, or choose another place with {option}; then run again: "
            "what is finished is kept"
        ) from error


def storage_problem(error: BaseException, root: Path) -> str | None:
    """What is wrong with the place and how to mend it, or None if the error is about something else."""
    seen: BaseException | None = error
    while seen is not None:
        code = _code(seen)
        place = getattr(seen, "filename", None)
        here = isinstance(place, str | bytes) and Path(os.fsdecode(place)).absolute().is_relative_to(root)
        if code in _ALWAYS and (here or place is None):
            return _ALWAYS[code]
        if code in _UNDER_ROOT and here:
            return _UNDER_ROOT[code]
        seen = seen.__cause__ or seen.__context__
    return None


def _code(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        renamed = error.filename2 is not None  # some file systems say EEXIST of a target that is not empty
        return errno.ENOTEMPTY if renamed and error.errno == errno.EEXIST else error.errno
    text = str(error).lower()
    return next((code for words, code in _TEXTS.items() if words in text), None)
