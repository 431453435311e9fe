"""Locks where the file system has `flock`, and where it has not."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aipo_lab.core import locks
from aipo_lab.core.locks import exclusive_lock, flock_works, lock_within

HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path
def no_flock(*_):
    raise OSError(int(sys.argv[2]), "not supported")
if int(sys.argv[2]):
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


@pytest.mark.parametrize("code", [0, errno.ENOTSUP], ids=["with flock", "without"])
def test_who_waits_for_so_long_only_gets_what_is_free_by_then(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.lock"
    if code:
        monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(code, "not supported")))
    flock_works.cache_clear()
    owner = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), str(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    try:
        assert owner.stdout.readline() == "held\n"
        for timeout_s in (0.0, 0.2):
            started_s = time.monotonic()
            with lock_within(path, timeout_s) as held:
                assert not held
            assert timeout_s <= time.monotonic() - started_s < timeout_s + 5
        threading.Timer(0.3, owner.kill).start()
        threading.Thread(target=owner.wait).start()  # a dead process that nobody waited for has no locks either
        with lock_within(path, 60.0) as held:
            assert held
            with lock_within(path, 0.0) as again:
                assert not again
        with lock_within(path, 0.0) as held:
            assert held
    finally:
        flock_works.cache_clear()
        owner.kill()
