"""Servers that want a call put otherwise: what is found from a refusal, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.judging import dialect
from aipo_lab.judging.calls import Judge, JudgeReply
from aipo_lab.judging.money import Budget
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings

from .conftest import request, requests, silent
from .judge_server import Body, JudgeServer

JudgeOn = Callable[..., Judge]
UNSUPPORTED = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
NO_CAP: Body = {"message": UNSUPPORTED, "param": "max_tokens", "code": "unsupported_parameter"}
NO_TEMPERATURE: Body = {
    "message": "Unsupported value: 'temperature' does not support 0 with this model. Only 1 is supported.",
    "param": "temperature",
    "code": "unsupported_value",
}


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    dialect._KNOWN.clear()
    yield
    dialect._KNOWN.clear()


def no_max_tokens(body: Body) -> Body | None:
    return NO_CAP if "max_tokens" in body else None


def test_the_cap_is_named_as_the_server_wants_it(tmp_path: Path) -> None:
    budget = Budget(None)
    with JudgeServer(lambda body: "ok", refuses=no_max_tokens) as server:
        settings = JudgeSettings(model="gpt-4", base_url=server.base_url, attempts=1, concurrency=1)
        outcomes = open_judge(settings, tmp_path, budget=budget).ask(requests(5), silent)
        assert all(isinstance(outcome, JudgeReply) for outcome in outcomes)
        assert len(server.calls) == 6  # one refusal, for good
        assert {call.body.get("max_completion_tokens") for call in server.calls[1:]} == {16}
        assert budget.n_calls == 5
        assert budget.lost_usd == 0
        open_judge(settings, tmp_path).ask([request("later")], silent)
        assert len(server.calls) == 7


@pytest.mark.parametrize(
    "error",
    [
        {"message": "max_tokens: extra inputs are not permitted"},
        {"message": "Unrecognized request argument supplied: max_tokens", "type": "invalid_request_error"},
        {"message": "please use max_completion_tokens"},
    ],
)
def test_other_words_for_the_same_refusal(judge_on: JudgeOn, error: Body) -> None:
    with JudgeServer(lambda body: "ok", refuses=lambda body: error if "max_tokens" in body else None) as server:
        (outcome,) = judge_on(server, attempts=1).ask([request("a")], silent)
    assert isinstance(outcome, JudgeReply)


def test_a_cap_that_is_too_large_is_no_question_of_names(judge_on: JudgeOn) -> None:
    error = {"message": "max_tokens is too large: 16", "param": "max_tokens", "code": "invalid_value"}
    with JudgeServer(lambda body: "ok", refuses=lambda body: error) as server:
        with pytest.raises(UserError, match="too large"):
            judge_on(server, concurrency=1).ask(requests(3), silent)
        assert len(server.calls) == 1


def test_a_server_that_takes_neither_name_is_not_asked_for_ever(judge_on: JudgeOn) -> None:
    with JudgeServer(lambda body: "ok", refuses=lambda body: NO_CAP) as server:
        with pytest.raises(UserError, match="max_tokens"):
            judge_on(server, concurrency=1).ask(requests(3), silent)
        assert len(server.calls) == 2


def test_a_temperature_that_matters_is_not_dropped(judge_on: JudgeOn) -> None:
    with JudgeServer(lambda body: "ok", refuses=lambda body: NO_TEMPERATURE if "temperature" in body else None) as s:
        with pytest.raises(UserError, match=r"takes no temperature but its own.*changes verdicts"):
            judge_on(s, concurrency=1).ask(requests(3), silent)
        assert s.billed_tokens == 0


def test_the_default_temperature_is_left_out_where_it_is_refused(judge_on: JudgeOn) -> None:
    def refuses(body: Body) -> Body | None:
        return no_max_tokens(body) or (NO_TEMPERATURE if "temperature" in body else None)

    with JudgeServer(lambda body: "ok", refuses=refuses) as server:
        judge = judge_on(server, concurrency=1)
        asked: list[Any] = requests(3, temperature=1.0)
        assert all(isinstance(outcome, JudgeReply) for outcome in judge.ask(asked, silent))
        assert len(server.calls) == 3 + 2
        with pytest.raises(UserError, match="takes no temperature"):
            judge.ask([request("greedy")], silent)
        assert len(server.calls) == 3 + 2
