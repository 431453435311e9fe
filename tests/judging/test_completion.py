"""Shapes of replies: what is read as the judge's words, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aipo_lab.judging.calls import JudgeReply
from aipo_lab.judging.completion import NO_LOGPROBS, read_reply
from aipo_lab.judging.replies import Fault

from .conftest import request

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def body(message: Any, *, finish_reason: Any = "stop", usage: Any = USAGE, **choice: Any) -> bytes:
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason, **choice}]
    return json.dumps({"choices": choices, "usage": usage}).encode()


def read(content: Any, **fields: Any) -> JudgeReply:
    return read_reply(body({"role": "assistant", "content": content}, **fields), request("a"))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("words", "words"),
        ("", ""),
        ([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}], "one two"),
        ([{"type": "output_text", "text": "words"}], "words"),
        ([{"type": "thinking", "thinking": "[[3]]"}, {"type": "text", "text": "[[8]]"}], "[[8]]"),
        ([{"text": {"value": "words"}}, "and more"], "wordsand more"),
        ("half \ud83d", "half \ufffd"),
        ("\ud83d\ude42", "🙂"),
    ],
)
def test_words_are_read_in_every_form(content: Any, text: str) -> None:
    assert read(content) == JudgeReply(text, "stop", 7, 3)


@pytest.mark.parametrize(
    ("message", "finish_reason", "problem"),
    [
        ({"content": None}, "stop", "no text (it ended by: stop)"),
        ({"content": []}, "stop", "no text"),
        ({"content": [{"type": "refusal", "refusal": "I will not."}]}, "stop", "refuses to answer: I will not."),
        ({"content": None, "refusal": "No."}, "stop", "refuses to answer: No."),
        ({"content": None}, "content_filter", "content filter"),
        ({"content": None}, "length", "cut off by the cap on its tokens"),
        ({"content": ""}, "length", "cut off by the cap on its tokens"),
        ({"content": " "}, "content_filter", "content filter"),
        ({"content": "", "reasoning_content": "[[3]]"}, "length", "reasoning and no answer, cut off"),
        ({"content": None, "reasoning": "[[3]]"}, "stop", "reasoning and no answer"),
        ({"content": 7}, "stop", "no text"),
        (None, None, "no text"),
    ],
)
def test_replies_without_words_say_why_and_what_they_cost(message: Any, finish_reason: Any, problem: str) -> None:
    reply = read_reply(body(message, finish_reason=finish_reason), request("a"))
    assert problem in reply.problem
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("", 7, 3)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_marks_and_broken_bytes_do_not_hide_a_paid_reply(start: bytes) -> None:
    raw = start + body({"content": "words"}).replace(b"words", b"w\xffrds")
    assert read_reply(raw, request("a")).text == "w\ufffdrds"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": "7", "completion_tokens": 2.5}, (7, 3)),
        ({"prompt_tokens": 7}, (7, 16)),
        ({"prompt_tokens": -1, "completion_tokens": None}, (None, 16)),
        (None, (None, 16)),
        ("many", (None, 16)),
        ({"prompt_tokens": 7, "completion_tokens": 1e999}, (7, 16)),
    ],
)
def test_what_is_not_counted_counts_as_at_most_it_can_be(usage: Any, expected: tuple[int | None, int]) -> None:
    reply = read("words", usage=usage)
    prompt_tokens, completion_tokens = expected
    assert reply.prompt_tokens == (request("a").most_prompt_tokens() if prompt_tokens is None else prompt_tokens)
    assert reply.completion_tokens == completion_tokens


@pytest.mark.parametrize(
    "raw",
    [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"error": {"message": "overloaded"}}', b'{"choices": [{"mess'],
)
def test_what_is_no_completion_is_a_fault_that_may_have_cost(raw: bytes) -> None:
    with pytest.raises(Fault) as raised:
        read_reply(raw, request("a"))
    assert raised.value.may_have_cost


def test_logprobs_that_are_missing_or_odd() -> None:
    asked = request("a", top_logprobs=2)
    position = {"top_logprobs": [{"token": "M", "logprob": -2}, {"token": "m", "logprob": -1}, {"token": 3}, "x"]}
    reply = read_reply(body({"content": "m"}, logprobs={"content": [position]}), asked)
    assert (reply.first_token_logprobs, reply.problem) == ((("m", -1.0), ("M", -2.0)), "")
    for logprobs in (None, {}, {"content": None}, {"content": []}, {"content": [{}]}, "x"):
        reply = read_reply(body({"content": "m"}, logprobs=logprobs), asked)
        assert reply.problem == NO_LOGPROBS
    assert read_reply(body({"content": ""}, logprobs={"content": []}), asked).problem == ""  # ended before its first
