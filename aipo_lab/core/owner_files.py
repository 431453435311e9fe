"""Locks where the file system has none: a file that names its owner, made whole or not at all.

An owner that died on this machine is replaced. `filelock`'s soft locks are not used for it: one whose process is killed
before it wrote its name into the file belongs to nobody, for ever, and holds everybody up.
"""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from aipo_lab.core.process_identity import is_alive, this_process


class OwnerFile:
    """The lock that the file at `path` stands for. One object takes it once at a time, and belongs to one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record: str | None = None

    def take(self) -> bool:
        """Whether the caller has the lock until it gives it back; never waits. Raises `OSError` if no file can be made.

        A dead owner's file is removed first.
        """
        assert self._record is None, f"{self.path} is held by this very object"
        record = f"{socket.gethostname()} {this_process()} {uuid.uuid4().hex}"
        if not (self._make(record) or (self._remove_dead() and self._make(record))):
            return False
        self._record = record
        return True

    def give_back(self) -> None:
        """Let go; a file that is not this object's any more, as somebody removed it by hand, is left alone."""
        if self._read() == self._record:
            self.path.unlink(missing_ok=True)
        self._record = None

    def _make(self, record: str) -> bool:
        """Link a complete file to the name, which works for one process at a time."""
        temporary = self.path.with_name(f".{self.path.name}.{record.split()[-1]}")
        temporary.write_text(record, encoding="utf-8")
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return temporary.stat().st_nlink == 2  # a network that repeats a request says so to the one that succeeded
        except OSError:  # no hard links here
            return self._make_at_once(record)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _make_at_once(self, record: str) -> bool:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(record)
        return True

    def _read(self) -> str | None:
        with suppress(FileNotFoundError, UnicodeDecodeError):
            return self.path.read_text(encoding="utf-8")
        return None

    def _remove_dead(self) -> bool:
        """Remove the file if its owner is dead; whether that was done.

        Only who has the lock named after that very owner may do it, so nobody removes what a successor made.
        """
        record = self._read()
        parts = (record or "").split()
        if record is None or len(parts) != 4 or parts[0] != socket.gethostname() or is_alive(" ".join(parts[1:3])):
            return False
        removing = OwnerFile(self.path.with_name(f"{self.path.name}-{parts[3]}"))
        if not removing.take():
            return False
        try:
            if self._read() != record:
                return False
            self.path.unlink()
            return True
        finally:
            removing.give_back()
