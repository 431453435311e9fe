from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import UserError
from aipo_lab.judging import pacing
from aipo_lab.judging.calls import Judge
from aipo_lab.judging.pacing import Pace, Slots, backoff_wait_s

from .conftest import request, requests, silent
from .judge_server import Body, Gate, JudgeServer, wait_until

JudgeOn = Callable[..., Judge]


@given(
    st.floats(1, 50),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 20)), min_size=1, max_size=60),
)
def test_no_window_holds_more_than_the_limit_and_one_start(limit: float, arrivals: list[tuple[float, float]]) -> None:
    now_s = 1000.0
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(pacing.time, "time", lambda: now_s)
        pace = Pace(Path(folder) / "pace", None, limit, period_s=1.0)
        starts = []
        for gap_s, amount in arrivals:
            now_s += gap_s
            while wait_s := pace.wait_s(amount):
                now_s += wait_s
            starts.append((now_s, amount))
    for begin_s, _ in starts:
        within = [amount for start_s, amount in starts if begin_s <= start_s < begin_s + 1.0]
        assert sum(within[:-1]) <= limit * (1 + 1e-6)


def test_no_limit_never_waits_and_keeps_no_file(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace", None, None)
    assert {pace.wait_s(1e9) for _ in range(5)} == {0.0}
    assert not list(tmp_path.iterdir())


def test_an_idle_pace_saves_nothing_up(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace", 10, None, period_s=1.0)
    pace.wait_s()
    time.sleep(0.15)
    assert pace.wait_s() == 0.0
    assert 0.05 < pace.wait_s() <= 0.1


def test_who_waits_and_dies_has_taken_nothing(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace", 1, None, period_s=1.0)
    assert pace.wait_s() == 0.0
    waits_s = [Pace(tmp_path / "pace", 1, None, period_s=1.0).wait_s() for _ in range(20)]
    assert max(waits_s) <= 1.0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"at": 9e99, "requests": 9e99, "tokens": 0}'])
def test_a_damaged_file_or_one_from_the_future_holds_nobody_up(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pace").write_bytes(content)
    pace = Pace(tmp_path / "pace", 10, None, period_s=1.0)
    assert pace.wait_s() == 0.0
    assert 0.0 < pace.wait_s() <= 0.1


def test_a_clock_that_is_a_little_behind_keeps_the_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(pacing.time, "time", lambda: now_s)
    pace = Pace(tmp_path / "pace", 1, None, period_s=1.0)
    assert pace.wait_s() == 0.0
    now_s -= 0.5  # another machine's clock
    assert pace.wait_s() == 1.5
    now_s -= 3600.0  # it was reset
    assert pace.wait_s() == 0.0


def test_a_file_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "pace").mkdir()
    with pytest.raises(UserError, match="limits per minute"):
        Pace(tmp_path / "pace", 10, None).wait_s()


def ask_in_processes(server: JudgeServer, folder: Path, n_processes: int, n_calls: int, **settings: Any) -> None:
    script = Path(__file__).with_name("asking_process.py")
    settings = {"model": "gpt-4", "base_url": server.base_url, "backoff_s": 0.01, **settings}
    processes = []
    for process in range(n_processes):
        contents = [f"process {process} question {number:03d}" for number in range(n_calls)]
        arguments = {"settings": settings, "store": str(folder), "contents": contents, "max_tokens": 65}
        processes.append(subprocess.Popen([sys.executable, str(script), json.dumps(arguments)], stdout=subprocess.PIPE))
    for one in processes:
        assert None not in json.loads(one.communicate(timeout=60)[0])


@pytest.mark.parametrize("limit", [{"requests_per_minute": 1200}, {"tokens_per_minute": 1200 * 80}])
def test_processes_together_keep_to_the_limits_per_minute(tmp_path: Path, limit: dict[str, float]) -> None:
    content = "process 0 question 000"
    assert request(content).likely_prompt_tokens() + 65 in (79, 80)
    with JudgeServer(lambda body: "ok") as server:
        ask_in_processes(server, tmp_path, 3, 10, **limit)  # one every 50 ms, whoever asks
    times_s = sorted(call.time_s for call in server.calls)
    assert len(times_s) == 30
    assert times_s[-1] - times_s[0] >= 29 * 0.049 - 0.05


def test_processes_together_keep_to_the_concurrency(tmp_path: Path) -> None:
    lock, active, most = threading.Lock(), 0, 0

    def count(body: Body) -> None:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.03)
        with lock:
            active -= 1

    with JudgeServer(lambda body: "ok", before_answer=count) as server:
        ask_in_processes(server, tmp_path, 3, 15, concurrency=3)
    assert most == 3


def test_a_killed_process_holds_no_place(tmp_path: Path, judge_on: JudgeOn) -> None:
    gate = Gate()
    with JudgeServer(lambda body: "ok", before_answer=gate) as server:
        settings = {"model": "gpt-4", "base_url": server.base_url, "concurrency": 2, "timeout_s": 20}
        arguments = {
            "settings": settings,
            "store": str(tmp_path / "calls"),
            "contents": ["a", "b", "c"],
            "max_tokens": 16,
        }
        script = Path(__file__).with_name("asking_process.py")
        (tmp_path / "calls").mkdir()
        owner = subprocess.Popen([sys.executable, str(script), json.dumps(arguments)], stdout=subprocess.DEVNULL)
        wait_until(lambda: gate.waiting == 2)
        slots = Slots(next((tmp_path / "calls").glob("limits-*.slots")), 2)
        assert slots.take() is None
        owner.kill()
        owner.wait()
        gate.raise_to(100)
        taken = [slots.take(), slots.take(), slots.take()]
        assert taken == [0, 1, None]


def test_calls_keep_to_the_requests_per_minute(judge_on: JudgeOn) -> None:
    with JudgeServer(lambda body: "ok") as server:
        judge_on(server, requests_per_minute=1200).ask(requests(12), silent)  # one every 50 ms
    times_s = sorted(call.time_s for call in server.calls)
    assert times_s[-1] - times_s[0] >= 11 * 0.05 - 0.03
    assert times_s[-1] - times_s[0] < 2


def test_tries_count_as_requests(judge_on: JudgeOn) -> None:
    with JudgeServer(lambda body: "ok", fault=lambda body, n: "server_error" if n < 3 else None) as server:
        judge_on(server, requests_per_minute=1200, backoff_s=0.001).ask(requests(3), silent)
    times_s = sorted(call.time_s for call in server.calls)
    assert len(times_s) == 12
    assert times_s[-1] - times_s[0] >= 11 * 0.05 - 0.03


def test_calls_keep_to_the_tokens_per_minute(judge_on: JudgeOn) -> None:
    asked = [request(f"{number:0100d}", max_tokens=67) for number in range(7)]
    assert {one.likely_prompt_tokens() + one.max_tokens for one in asked} == {100}
    with JudgeServer(lambda body: "ok") as server:
        judge_on(server, tokens_per_minute=60_000).ask(asked, silent)  # 100 tokens every 100 ms
    times_s = sorted(call.time_s for call in server.calls)
    assert times_s[-1] - times_s[0] >= 6 * 0.1 - 0.03


def test_back_off_doubles_to_a_ceiling_with_full_jitter() -> None:
    for attempt, ceiling_s in ((1, 1.0), (2, 2.0), (4, 8.0), (7, 60.0), (10_000, 60.0)):
        waits_s = [backoff_wait_s(attempt, 1.0) for _ in range(400)]
        assert 0 <= min(waits_s) < 0.1 * ceiling_s
        assert 0.9 * ceiling_s < max(waits_s) <= ceiling_s
