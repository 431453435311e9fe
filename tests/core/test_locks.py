"""Locks where the file system has `flock`, and where it has not."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from aipo_lab.core import locks
from aipo_lab.core.locks import exclusive_lock, flock_works

HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path
def no_flock(*_):
    raise OSError(int(sys.argv[2]), "not supported")
fcntl.flock = no_flock
from aipo_lab.core.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_without_flock_a_file_stands_for_it_and_a_dead_owner_is_replaced(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, waited = tmp_path / "locks" / "a.lock", []

    def no_flock(*_: object) -> None:
        raise OSError(code, "not supported")

    monkeypatch.setattr(fcntl, "flock", no_flock)
    owner = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), str(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"

    def kill_owner() -> None:
        waited.append(True)
        owner.kill()
        owner.communicate(timeout=30)

    try:
        with exclusive_lock(path, kill_owner):
            assert waited == [True]
            assert (path.parent / "a.lock.owner").exists()
    finally:
        flock_works.cache_clear()
        owner.kill()
    assert any("has no file locks" in record.getMessage() for record in caplog.records)
    assert any("remove the file" in record.getMessage() for record in caplog.records)


def test_the_probe_leaves_nothing(tmp_path: Path) -> None:
    assert locks.flock_works(tmp_path)
    assert list(tmp_path.iterdir()) == []
