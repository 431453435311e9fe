from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.judging import pacing
from aipo_lab.judging.calls import Judge
from aipo_lab.judging.money import likely_prompt_tokens
from aipo_lab.judging.pacing import Pace, backoff_wait_s

from .conftest import request, requests, silent
from .judge_server import JudgeServer

JudgeOn = Callable[..., Judge]


@given(
    st.floats(1, 50),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 20)), min_size=1, max_size=60),
)
def test_no_window_holds_more_than_the_limit_and_one_start(limit: float, arrivals: list[tuple[float, float]]) -> None:
    now_s = 1000.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing.time, "monotonic", lambda: now_s)
        pace = Pace(limit, period_s=1.0)
        starts = []
        for gap_s, amount in arrivals:
            now_s += gap_s
            starts.append((now_s + pace.wait_s(amount), amount))
    for begin_s, _ in starts:
        within = [amount for start_s, amount in starts if begin_s <= start_s < begin_s + 1.0]
        assert sum(within[:-1]) <= limit * (1 + 1e-6)


def test_no_limit_never_waits() -> None:
    pace = Pace(None)
    assert {pace.wait_s(1e9) for _ in range(5)} == {0.0}


def test_an_idle_pace_saves_nothing_up() -> None:
    pace = Pace(10, period_s=1.0)
    pace.wait_s()
    time.sleep(0.15)
    assert pace.wait_s() == 0.0
    assert 0.05 < pace.wait_s() <= 0.1


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
    assert {likely_prompt_tokens(one) + one.max_tokens for one in asked} == {100}
    with JudgeServer(lambda body: "ok") as server:
        judge_on(server, tokens_per_minute=60_000).ask(asked, silent)  # 100 tokens every 100 ms
    times_s = sorted(call.time_s for call in server.calls)
    assert times_s[-1] - times_s[0] >= 6 * 0.1 - 0.03


def test_back_off_doubles_to_a_ceiling_with_full_jitter() -> None:
    for attempt, ceiling_s in ((1, 1.0), (2, 2.0), (4, 8.0), (7, 60.0), (10_000, 60.0)):
        waits_s = [backoff_wait_s(attempt, 1.0) for _ in range(400)]
        assert 0 <= min(waits_s) < 0.1 * ceiling_s
        assert 0.9 * ceiling_s < max(waits_s) <= ceiling_s
