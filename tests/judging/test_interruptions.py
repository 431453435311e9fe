"""Evaluations that overlap, are killed and go on: the server counts that nothing is paid for twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import KEY
from .judge_server import TRANSIENT_FAULTS, Body, Gate, JudgeServer, wait_until

SCRIPT = Path(__file__).with_name("asking_process.py")


def echo(body: Body) -> str:
    return f"re: {body['messages'][-1]['content']}"


def start(server: JudgeServer, store: Path, contents: list[str], **settings: Any) -> subprocess.Popen[str]:
    settings = {"model": "gpt-4", "base_url": server.base_url, "backoff_s": 0.01, "timeout_s": 0.5, **settings}
    arguments = {"settings": settings, "store": str(store), "contents": contents, "max_tokens": 64}
    command = [sys.executable, str(SCRIPT), json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[str | None]:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert KEY not in output + errors
    texts: list[str | None] = json.loads(output)
    return texts


def stored(folder: Path) -> int:
    return len([path for path in folder.glob("*/*.json") if ".discarded" not in path.name])


def fault(body: Body, n: int) -> str | None:
    """Every kind of fault on first arrivals, and a second one on some."""
    number = int(body["messages"][0]["content"].split()[-1])
    kinds = (*TRANSIENT_FAULTS, None)
    return kinds[(number + n) % len(kinds)] if n < 1 + number % 2 else None


def test_killed_twice_among_faults_each_call_is_answered_once(tmp_path: Path) -> None:
    contents = [f"question {number}" for number in range(60)]
    gate = Gate()
    with JudgeServer(echo, fault=fault, before_answer=gate, hang_s=2.0) as server:
        for limit in (15, 38):
            gate.raise_to(limit)
            # a long timeout, so that no caller hangs up on an answer that the gate holds back
            process = start(server, tmp_path, contents, concurrency=8, timeout_s=20.0)
            wait_until(lambda limit=limit: server.answered_total == limit == stored(tmp_path))
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        gate.raise_to(10_000)
        assert finish(start(server, tmp_path, contents, concurrency=8)) == [f"re: {content}" for content in contents]
        assert server.answered_total == 60
        assert server.answered_once()
        assert finish(start(server, tmp_path, contents)) == [f"re: {content}" for content in contents]
        assert server.answered_total == 60


def test_two_processes_that_overlap_share_the_calls(tmp_path: Path) -> None:
    first, second = [f"question {n}" for n in range(0, 80)], [f"question {n}" for n in range(119, 19, -1)]
    with JudgeServer(echo, fault=fault, latency_s=0.02, hang_s=1.0) as server:
        processes = [start(server, tmp_path, contents, concurrency=6) for contents in (first, second)]
        assert [finish(process) for process in processes] == [
            [f"re: {c}" for c in contents] for contents in (first, second)
        ]
        assert server.answered_total == 120
        assert server.answered_once()


def test_a_waiting_process_takes_over_from_a_killed_one(tmp_path: Path) -> None:
    contents = ["question 1", "question 2"]
    gate = Gate()
    with JudgeServer(echo, before_answer=gate) as server:
        owner = start(server, tmp_path, contents, timeout_s=20.0)
        wait_until(lambda: len(server.calls) == 2)
        heir = start(server, tmp_path, contents, timeout_s=20.0)
        with pytest.raises(subprocess.TimeoutExpired):
            heir.wait(1.5)
        assert len(server.calls) == 2
        os.kill(owner.pid, signal.SIGKILL)
        owner.communicate()
        gate.raise_to(100)
        assert finish(heir) == ["re: question 1", "re: question 2"]
        assert server.answered_total == 2
