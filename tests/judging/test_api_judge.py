from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import Judge, JudgeReply, JudgeRequest, Message, Unanswered
from aipo_lab.judging.replies import Fault, ServerError, failure

from .conftest import KEY, request, requests, silent
from .judge_server import BODY_FAULTS, TRANSIENT_FAULTS, Body, JudgeServer

JudgeOn = Callable[..., Judge]


def echo(body: Body) -> str:
    return f"re: {body['messages'][-1]['content']}"


def texts(outcomes: list[Any]) -> list[str]:
    assert all(isinstance(outcome, JudgeReply) for outcome in outcomes), outcomes
    return [outcome.text for outcome in outcomes]


def test_replies_come_in_order_and_equal_requests_are_asked_once(judge_on: JudgeOn) -> None:
    seen: list[tuple[int, int, str]] = []
    with JudgeServer(echo) as server:
        asked = [request("b"), request("a"), request("b"), request("a", temperature=-0.0), request("a", max_tokens=17)]
        outcomes = judge_on(server).ask(asked, lambda *step: seen.append(step))
        assert texts(outcomes) == ["re: b", "re: a", "re: b", "re: a", "re: a"]
        assert server.answered_total == 3
        assert server.answered_once()
    assert [(done, total) for done, total, _ in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert seen[-1][2] == "calls ($0.00)"


def test_the_request_is_sent_as_asked(judge_on: JudgeOn) -> None:
    messages = (Message("system", "Judge."), Message("user", "a\u2028\ud83d"), Message("assistant", ""))
    with JudgeServer(echo) as server:
        judge_on(server, model="gpt-4o").ask([JudgeRequest(messages, 7, 0.25)], silent)
    call = server.calls[0]
    assert call.path == "/v1/chat/completions"
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    assert call.body == {
        "model": "gpt-4o",
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_tokens": 7,
        "temperature": 0.25,
    }


def test_a_reply_carries_tokens_finish_reason_and_logprobs(judge_on: JudgeOn) -> None:
    def logprobs(body: Body) -> dict[str, float]:
        return {"M": -2.5, "m": -0.25, "x": -7.0}

    with JudgeServer(lambda body: "m", logprobs=logprobs, prompt_tokens=lambda body: 11) as server:
        asked = request("which?", max_tokens=1, temperature=1.0, top_logprobs=2)
        reply = JudgeReply("m", "length", 11, 1, (("m", -0.25), ("M", -2.5)))
        assert judge_on(server).ask([asked], silent) == [reply]
        assert server.calls[0].body["logprobs"] is True
        assert server.calls[0].body["top_logprobs"] == 2
        assert judge_on(server).ask([asked], silent) == [reply]  # from the store
        assert server.answered_total == 1


def test_a_judge_without_logprobs_is_an_error_only_where_they_are_needed(judge_on: JudgeOn) -> None:
    with JudgeServer(echo) as server:
        judge = judge_on(server)
        with pytest.raises(UserError, match=r"gpt-4 gives no log-probabilities.*alpaca_eval") as raised:
            judge.ask(requests(5, top_logprobs=5), silent)
        assert "server" in str(raised.value)
        assert texts(judge.ask([request("plain")], silent)) == ["re: plain"]


@pytest.mark.parametrize("fault", TRANSIENT_FAULTS)
def test_what_passes_is_tried_again(judge_on: JudgeOn, fault: str) -> None:
    timeout_s = 0.2 if fault == "hang" else 5.0
    with JudgeServer(echo, fault=lambda body, n: fault if n < 2 else None) as server:
        outcomes = judge_on(server, timeout_s=timeout_s).ask(requests(3), silent)
        assert texts(outcomes) == ["re: question 0", "re: question 1", "re: question 2"]
        assert len(server.calls) == 9
        assert server.answered_once()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("rate_limited", "status 429: Rate limit reached"),
        ("server_error", "status 500: Internal error"),
        ("unavailable", "status 503: Overloaded"),
        ("truncated", "not JSON"),
        ("cut_off", "connection failed"),
        ("junk", "not JSON: '<html>"),
        ("drop", "connection failed"),
        ("hang", "no answer within 0.2 s"),
    ],
)
def test_what_does_not_pass_is_unanswered_with_the_reason_and_asked_on_the_next_run(
    judge_on: JudgeOn, fault: str, reason: str
) -> None:
    broken = True
    with JudgeServer(
        echo, fault=lambda body, n: fault if broken and "1" in body["messages"][0]["content"] else None
    ) as s:
        timeout_s = 0.2 if fault == "hang" else 5.0
        good, bad = judge_on(s, attempts=2, timeout_s=timeout_s).ask(requests(2), silent)
        assert texts([good]) == ["re: question 0"]
        assert isinstance(bad, Unanswered)
        assert reason in bad.reason
        assert "(tried 2 times)" in bad.reason
        assert KEY not in bad.reason
        broken = False
        assert texts(judge_on(s).ask(requests(2), silent)) == ["re: question 0", "re: question 1"]
        assert s.answered_once()


def test_every_fault_is_covered_above() -> None:
    assert set(BODY_FAULTS) < set(TRANSIENT_FAULTS)


def test_a_refused_request_is_not_tried_again_and_stops_no_other(judge_on: JudgeOn) -> None:
    with JudgeServer(
        echo, fault=lambda body, n: "too_long" if "2" in body["messages"][0]["content"] else None
    ) as server:
        outcomes = judge_on(server).ask(requests(4), silent)
        assert isinstance(outcomes[2], Unanswered)
        assert "maximum context length" in outcomes[2].reason
        assert len(texts(outcomes[:2] + outcomes[3:])) == 3
        assert len(server.calls) == 4


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("unauthorized", "OPENAI_API_KEY"),
        ("forbidden", "OPENAI_API_KEY"),
        ("not_found", "base_url"),
        ("bad_request", "max_tokens is too large"),
        ("out_of_quota", "no credit left"),
    ],
)
def test_what_asking_again_cannot_mend_stops_at_once(judge_on: JudgeOn, fault: str, advice: str) -> None:
    with JudgeServer(echo, fault=lambda body, n: fault) as server:
        with pytest.raises(UserError) as raised:
            judge_on(server, concurrency=4).ask(requests(50), silent)
        assert len(server.calls) <= 4
    assert advice in str(raised.value)
    assert KEY not in repr(raised.value)


def test_calls_under_way_are_kept_when_another_stops_everything(judge_on: JudgeOn) -> None:
    def fault(body: Body, n: int) -> str | None:
        return "unauthorized" if body["messages"][0]["content"] == "question 3" else None

    with JudgeServer(echo, fault=fault, latency_s=0.05) as server:
        with pytest.raises(UserError):
            judge_on(server, concurrency=4).ask(requests(4), silent)
        assert server.answered_total == 3
        assert len(texts(judge_on(server).ask(requests(3), silent))) == 3
        assert server.answered_total == 3


def test_retry_after_is_honoured(judge_on: JudgeOn) -> None:
    with JudgeServer(echo, fault=lambda body, n: "rate_limited" if n == 0 else None, retry_after_s=0.4) as server:
        judge_on(server, backoff_s=0.001).ask([request("a")], silent)
    assert 0.4 <= server.calls[1].time_s - server.calls[0].time_s < 2


def test_a_date_to_retry_after_is_honoured(judge_on: JudgeOn) -> None:
    with JudgeServer(
        echo,
        fault=lambda body, n: "rate_limited" if n == 0 else None,
        retry_after=lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2.0), usegmt=True),
    ) as server:
        judge_on(server, backoff_s=0.001).ask([request("a")], silent)
    assert 0.9 <= server.calls[1].time_s - server.calls[0].time_s < 4


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "Wed, 21 Oct 2099 07:28:30 GMT", "Date": "Wed, 21 Oct 2099 07:28:00 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2099 07:28:30 -0000", "Date": "Wed, 21 Oct 2099 07:28:00 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "nan"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({}, 0),
    ],
)
def test_the_wait_that_a_server_wishes(headers: dict[str, str], wait_s: float) -> None:
    fault = failure(429, headers, ServerError("", "busy"), "KEY")
    assert isinstance(fault, Fault)
    assert fault.retry_after_s == wait_s


def test_a_wait_beyond_reason_is_not_waited_for(judge_on: JudgeOn) -> None:
    started_s = time.monotonic()
    with JudgeServer(echo, fault=lambda body, n: "rate_limited", retry_after_s=3600) as server:
        (outcome,) = judge_on(server).ask([request("a")], silent)
    assert isinstance(outcome, Unanswered)
    assert time.monotonic() - started_s < 2


def test_the_deadline_ends_waiting_and_starting(judge_on: JudgeOn) -> None:
    started_s = time.monotonic()
    with JudgeServer(
        echo, latency_s=0.15, fault=lambda b, n: "unavailable" if "0" in b["messages"][0]["content"] else None
    ) as s:
        outcomes = judge_on(s, deadline_s=0.4, concurrency=2, backoff_s=60.0).ask(requests(30), silent)
    assert time.monotonic() - started_s < 2
    assert isinstance(outcomes[0], Unanswered)
    assert "ended before the next try" in outcomes[0].reason
    assert isinstance(outcomes[1], JudgeReply)
    assert isinstance(outcomes[-1], Unanswered)
    assert "deadline" in outcomes[-1].reason


def test_a_server_that_is_down_is_given_up_soon(judge_on: JudgeOn) -> None:
    with JudgeServer(echo, fault=lambda body, n: "server_error") as server:
        outcomes = judge_on(server, attempts=2, concurrency=4).ask(requests(200), silent)
        assert len(server.calls) < 60
    assert all(isinstance(outcome, Unanswered) for outcome in outcomes)
    assert "16 calls in a row failed" in outcomes[-1].reason


def test_nothing_listens(judge_on: JudgeOn) -> None:
    with JudgeServer(echo) as server:
        judge = judge_on(server, attempts=2)
    (outcome,) = judge.ask([request("a")], silent)
    assert isinstance(outcome, Unanswered)
    assert "connection failed" in outcome.reason
    assert "(tried 2 times)" in outcome.reason
    assert "ssl" not in outcome.reason  # the address is http


def test_it_works_where_a_loop_runs_and_from_threads(judge_on: JudgeOn) -> None:
    async def inside() -> list[Any]:
        return judge.ask(requests(3), silent)

    with JudgeServer(echo, latency_s=0.05) as server:
        judge = judge_on(server)
        assert len(texts(asyncio.run(inside()))) == 3
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(judge.ask, requests(12), silent) for _ in range(4)]
        assert [texts(job.result()) for job in jobs] == [[f"re: question {n}" for n in range(12)]] * 4
        assert server.answered_total == 12
        assert server.answered_once()


def test_concurrency_is_used_and_kept_to(judge_on: JudgeOn) -> None:
    lock = threading.Lock()
    active, most = 0, 0

    def reply(body: Body) -> str:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.05)
        with lock:
            active -= 1
        return "ok"

    with JudgeServer(lambda body: "ok", before_answer=reply) as server:
        judge_on(server, concurrency=6).ask(requests(30), silent)
    assert most == 6


def test_discarded_replies_are_asked_again_by_the_next_judge_only(judge_on: JudgeOn, tmp_path: Path) -> None:
    replies = iter(["junk", "[[7]]"])
    with JudgeServer(lambda body: next(replies)) as server:
        judge = judge_on(server)
        assert texts(judge.ask([request("a")], silent)) == ["junk"]
        judge.discard(request("a"), "no rating")
        judge.discard(request("a"), "no rating")
        assert texts(judge.ask([request("a")], silent)) == ["junk"]
        assert server.answered_total == 1
        later = judge_on(server)
        assert texts(later.ask([request("a")], silent)) == ["[[7]]"]
        assert texts(judge.ask([request("a")], silent)) == ["junk"]
        judge.discard(request("a"), "still")  # must not touch the later judge's reply
        assert texts(judge_on(server).ask([request("a")], silent)) == ["[[7]]"]
    (kept,) = (tmp_path / "calls").rglob("*.discarded-1.json")
    assert '"no rating"' in kept.read_text()
    assert '"junk"' in kept.read_text()


def test_azure_route_and_header(judge_on: JudgeOn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-06-01")
    with JudgeServer(
        echo, fault=lambda body, n: "unauthorized" if "bad" in body["messages"][0]["content"] else None
    ) as s:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", s.url + "/")
        azure = {"engine": "azure", "base_url": None}
        assert texts(judge_on(s, **azure, model="gpt-4").ask([request("a")], silent)) == ["re: a"]
        assert texts(judge_on(s, **azure, model="gpt-4o", deployment="my judge").ask([request("a")], silent)) == [
            "re: a"
        ]
        with pytest.raises(UserError, match="AZURE_OPENAI_API_KEY") as raised:
            judge_on(s, **azure).ask([request("bad")], silent)
    assert KEY not in str(raised.value)
    assert [call.path for call in s.calls[:2]] == [
        "/openai/deployments/gpt-4/chat/completions?api-version=2024-06-01",
        "/openai/deployments/my%20judge/chat/completions?api-version=2024-06-01",
    ]
    assert s.calls[0].headers["api-key"] == KEY
    assert "Authorization" not in s.calls[0].headers


def test_replies_of_servers_that_count_no_tokens_count_as_at_most_they_can_be(judge_on: JudgeOn) -> None:
    with JudgeServer(lambda body: "twelve chars", counts_tokens=False) as server:
        (reply,) = judge_on(server).ask([request("x" * 40)], silent)
    assert isinstance(reply, JudgeReply)
    assert (reply.prompt_tokens, reply.completion_tokens) == (40 + 16, 16)
