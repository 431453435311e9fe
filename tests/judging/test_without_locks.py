"""Judging where the file system has no locks: files that name their owner stand for them, and nothing is lost."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.locks import flock_works, record_locks_work
from aipo_lab.judging import claims
from aipo_lab.judging.claims import Claims
from aipo_lab.judging.ledger import SharedBudget
from aipo_lab.judging.pacing import Pace, Slots

from .judge_server import Body, Gate, JudgeServer, wait_until

SCRIPT = Path(__file__).with_name("asking_process.py")
NO_LOCKS = """
import errno, fcntl
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = fcntl.lockf = refuse
"""
SPEND = """
import sys
from pathlib import Path
from aipo_lab.judging.ledger import SharedBudget
budget = SharedBudget.open(Path(sys.argv[1]))
print("open", flush=True)
while budget.reserve(0.25):
    budget.settle(0.25, 0.125)
"""


@pytest.fixture(autouse=True)
def _no_locks(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(NO_LOCKS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    yield
    flock_works.cache_clear()
    record_locks_work.cache_clear()


def echo(body: Body) -> str:
    return f"re: {body['messages'][-1]['content']}"


def start(server: JudgeServer, store: Path, contents: list[str], **settings: Any) -> subprocess.Popen[str]:
    settings = {"model": "gpt-4", "base_url": server.base_url, "backoff_s": 0.01, "timeout_s": 20.0, **settings}
    arguments = {"settings": settings, "store": str(store), "contents": contents, "max_tokens": 64}
    return subprocess.Popen([sys.executable, str(SCRIPT), json.dumps(arguments)], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> Any:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(output)


def owners(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.owner*")]


def test_two_processes_share_the_calls_and_keep_to_the_concurrency(tmp_path: Path) -> None:
    lock, active, most = threading.Lock(), 0, 0

    def count(body: Body) -> None:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.02)
        with lock:
            active -= 1

    first, second = [f"question {n}" for n in range(30)], [f"question {n}" for n in range(44, 14, -1)]
    with JudgeServer(echo, before_answer=count) as server:
        processes = [start(server, tmp_path, contents, concurrency=3) for contents in (first, second)]
        assert [finish(one) for one in processes] == [[f"re: {c}" for c in contents] for contents in (first, second)]
        assert server.answered_total == 45
        assert server.answered_once()
    assert most == 3
    assert owners(tmp_path) == []


def test_a_waiting_process_takes_over_from_a_killed_one(tmp_path: Path) -> None:
    gate = Gate()
    with JudgeServer(echo, before_answer=gate) as server:
        owner = start(server, tmp_path, ["question 1", "question 2"])
        wait_until(lambda: len(server.calls) == 2)
        heir = start(server, tmp_path, ["question 1", "question 2"])
        with pytest.raises(subprocess.TimeoutExpired):
            heir.wait(1.0)
        assert len(server.calls) == 2
        os.kill(owner.pid, signal.SIGKILL)
        owner.communicate()
        gate.raise_to(100)
        assert finish(heir) == ["re: question 1", "re: question 2"]
        assert server.answered_total == 2
    assert owners(tmp_path) == []


def test_processes_and_threads_never_pass_the_limit_and_a_killed_one_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    budget = SharedBudget.create(path, 40.0)
    command = [sys.executable, "-c", SPEND, str(path)]
    victim, other = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    assert victim.stdout is not None
    assert victim.stdout.readline() == "open\n"
    victim.kill()  # somewhere between two operations, or inside one
    victim.communicate()

    def spend(_: int) -> int:
        n = 0
        while budget.reserve(0.25):
            budget.settle(0.25, 0.125)
            n += 1
        return n

    with ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(spend, range(3))) > 0
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert 40.0 - 3 * 0.25 < budget.spent_usd + budget.lost_usd + 0.25 <= 40.0 + 0.25
    assert budget.spent_usd + budget.lost_usd <= 40.0
    assert owners(tmp_path) == []


def test_a_pace_is_kept(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace", 1, None, period_s=60.0)
    assert pace.wait_s() == 0.0
    assert Pace(tmp_path / "pace", 1, None, period_s=60.0).wait_s() > 59
    assert owners(tmp_path) == []


def test_slots_are_claimed_given_back_and_free_in_other_objects(tmp_path: Path) -> None:
    (tmp_path / "slots").touch()
    mine, other = Slots(tmp_path / "slots", 2), Claims(tmp_path / "slots")
    assert [mine.take(), mine.take(), mine.take()] == [0, 1, None]
    assert not other.take(1), "as another process would see it"
    mine.give_back(1)
    assert other.take(1)
    other.give_back(1)
    mine.give_back(0)
    assert owners(tmp_path) == []


def test_a_forked_child_inherits_no_claim_and_leaves_its_parents_alone(tmp_path: Path) -> None:
    path = tmp_path / "claims.lock"
    with claims.claims_on(path).claim("f" * 64) as mine:
        assert mine
        child = os.fork()
        if child == 0:
            import gc

            gc.collect()
            with claims.claims_on(path).claim("f" * 64) as claimed:
                os._exit(10 if claimed else 11)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
        assert len(owners(tmp_path)) == 1


def test_who_waits_long_is_told_once_which_file_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "claims.lock").touch()
    holder, waiting = Claims(tmp_path / "claims.lock"), Claims(tmp_path / "claims.lock")
    assert holder.take(5)
    assert not waiting.take(5)
    assert not [one for one in caplog.records if "remove the file" in one.getMessage()]
    monkeypatch.setattr(claims, "LONG_S", 0.0)
    assert [waiting.take(5), waiting.take(5)] == [False, False]
    (told,) = [one for one in caplog.records if "remove the file" in one.getMessage()]
    assert told.levelno == logging.WARNING
    assert "claims.lock-5.owner" in told.getMessage()
    holder.give_back(5)
    assert waiting.take(5)
    waiting.give_back(5)
