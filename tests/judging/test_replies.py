"""What a status other than 200 means, and what an error body says."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeReply
from aipo_lab.judging.ledger import _State
from aipo_lab.judging.replies import Fault, NoLogprobs, Refusal, ServerError, error_of, failure
from aipo_lab.judging.store import CallStore

from .conftest import request


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"code": "c", "message": "m", "param": "p"}}', ServerError("c", "m", "p")),
        (b'{"error": {"type": "t", "detail": "d"}}', ServerError("t", "d")),
        (b'{"message": "at the top"}', ServerError("", "at the top")),
        (b'{"error": "only words"}', ServerError("", "only words")),
        (b'{"error": {"code": 5}}', ServerError("5", '{"error": {"code": 5}}')),
        (b'["\xff"]', ServerError("", repr('["\ufffd"]'))),
        (b"", ServerError("", "nothing")),
    ],
)
def test_an_error_body_says_code_message_and_parameter(body: bytes, expected: ServerError) -> None:
    assert error_of(body) == expected


@pytest.mark.parametrize(
    ("status", "error", "kind", "says"),
    [
        (402, ServerError("", "pay"), UserError, "no credit left (status 402: pay)"),
        (429, ServerError("insufficient_quota", "pay"), UserError, "no credit left"),
        (403, ServerError("", "no"), UserError, "may not use this model"),
        (401, ServerError("", "who"), UserError, "check the key in the environment variable KEY"),
        (404, ServerError("", "where"), UserError, "base_url"),
        (429, ServerError("", "slow"), Fault, "status 429: slow"),
        (503, ServerError("", "down"), Fault, "status 503: down"),
        (400, ServerError("content_filter", "bad words"), Refusal, "status 400: bad words"),
        (400, ServerError("", "maximum context length is 5"), Refusal, "maximum context length"),
        (400, ServerError("", "no logprobs here"), NoLogprobs, ""),
    ],
)
def test_a_status_means_one_thing(status: int, error: ServerError, kind: type[Exception], says: str) -> None:
    found = failure(status, {}, error, "KEY")
    assert isinstance(found, kind)
    assert says in str(found)
    if kind is UserError:
        assert str(found).startswith("the judge's")


@pytest.mark.parametrize(("status", "may_have_cost"), [(503, False), (504, True), (429, False), (408, True)])
def test_what_stands_before_a_server_does_not_know_what_it_cost(status: int, may_have_cost: bool) -> None:
    found = failure(status, {"Retry-After": "3"}, ServerError("", "m"), "KEY")
    assert isinstance(found, Fault)
    assert (found.may_have_cost, found.retry_after_s) == (may_have_cost, 3.0)


def test_a_greedy_reply_that_was_cut_off_stays_and_a_sampled_one_goes_aside(tmp_path: Path) -> None:
    reply = JudgeReply("cut", "length", 1, 1, problem="it was cut off")
    for temperature, stays in ((0.0, True), (1.0, False)):
        store = CallStore(tmp_path, {})
        asked = request("a", temperature=temperature)
        store.put(store.hash(asked), asked, reply, None)
        assert (store.find(store.hash(asked)) == reply) == stays
        usable = request("b", temperature=temperature)
        store.put(store.hash(usable), usable, JudgeReply("cut", "length", 1, 1), None)
        store.discard(store.hash(usable), "of no use")
        assert (store.find(store.hash(usable)) is not None) == stays


def test_a_limit_is_untried_until_something_was_billed() -> None:
    assert _State(1.0, 0.0).is_untried()
    assert not _State(None, 0.0).is_untried()
    assert not _State(1.0, 0.0, spent=1).is_untried()
    assert not _State(1.0, 0.0, lost=1).is_untried()
