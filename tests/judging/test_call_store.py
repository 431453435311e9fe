from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import UserError
from aipo_lab.judging.call_file import request_hash
from aipo_lab.judging.calls import JudgeReply, JudgeRequest, Message
from aipo_lab.judging.store import CallStore

from .conftest import request

IDENTITY = {"engine": "openai", "model": "gpt-4", "label": ""}
REPLY = JudgeReply("[[A>B]] \ud83d é", "stop", 120, 9, (("m", -0.1), ("M", -9999.0)))

texts = st.text(st.characters())  # lone surrogates too: they occur in data files
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts)
judge_requests = st.builds(
    JudgeRequest,
    st.lists(messages, min_size=1, max_size=4).map(tuple),
    st.integers(1, 4096),
    st.floats(0, 2),
    st.integers(0, 20),
)


@given(judge_requests, judge_requests)
def test_hashes_are_equal_exactly_where_requests_are(one: JudgeRequest, other: JudgeRequest) -> None:
    copy = JudgeRequest(
        tuple(Message(m.role, m.content) for m in one.messages), one.max_tokens, one.temperature, one.top_logprobs
    )
    assert request_hash(IDENTITY, one) == request_hash(IDENTITY, copy)
    assert (request_hash(IDENTITY, one) == request_hash(IDENTITY, other)) == (one == other)


@given(judge_requests, st.data())
def test_any_change_of_content_changes_the_hash(one: JudgeRequest, data: st.DataObject) -> None:
    first, *rest = one.messages
    changed = data.draw(
        st.sampled_from(
            [
                replace(one, max_tokens=one.max_tokens + 1),
                replace(one, temperature=one.temperature + 0.5),
                replace(one, top_logprobs=one.top_logprobs + 1),
                replace(one, messages=(*one.messages, Message("user", ""))),
                replace(one, messages=(replace(first, content=first.content + " "), *rest)),
                replace(one, messages=(replace(first, role=first.role + "x"), *rest)),
            ]
        )
    )
    assert request_hash(IDENTITY, one) != request_hash(IDENTITY, changed)


@given(st.permutations(list(IDENTITY.items())), st.sampled_from(sorted(IDENTITY)))
def test_the_order_of_fields_is_irrelevant_and_the_judge_is_not(items: list[tuple[str, str]], changed: str) -> None:
    expected = request_hash(IDENTITY, request("a"))
    assert request_hash(dict(items), request("a")) == expected
    assert request_hash({**IDENTITY, changed: "other"}, request("a")) != expected


def test_the_hash_stays_what_it_was() -> None:
    """A changed hash orphans replies that were paid for."""
    asked = JudgeRequest((Message("user", "é"),), 16, 1, 5)
    head = (
        '{"identity":{"engine":"openai","label":"","model":"gpt-4"},"max_tokens":16,"messages":[["user",2]],'
        '"temperature":1.0,"top_logprobs":5,"version":2}'
    )
    import hashlib

    assert request_hash(IDENTITY, asked) == hashlib.sha256(head.encode() + b"\n" + "é".encode()).hexdigest()


@pytest.fixture
def calls(tmp_path: Path) -> CallStore:
    return CallStore(tmp_path, IDENTITY)


def test_what_is_stored_is_found_and_says_what_it_is(calls: CallStore, tmp_path: Path) -> None:
    call = calls.hash(request("a"))
    assert calls.find(call) is None
    calls.put(call, request("a"), REPLY, 0.25)
    assert CallStore(tmp_path, IDENTITY).find(call) == REPLY
    value = json.loads((tmp_path / call[:2] / f"{call}.json").read_text())
    assert (value["hash"], value["identity"], value["cost_usd"], value["attempt"]) == (call, IDENTITY, 0.25, 1)
    assert value["request"]["messages"] == [["user", "a"]]
    assert [path.name for path in (tmp_path / call[:2]).iterdir()] == [f"{call}.json"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "[" * 100_000, '{"hash": 1}', "\x00" * 200, "other", "half"])
def test_a_damaged_file_is_reported_once_and_counts_as_absent(
    calls: CallStore, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    call, other = calls.hash(request("a")), calls.hash(request("b"))
    for one, text in ((call, "a"), (other, "b")):
        calls.put(one, request(text), REPLY, None)
    path = tmp_path / call[:2] / f"{call}.json"
    whole = path.read_text()
    contents = {"other": (tmp_path / other[:2] / f"{other}.json").read_text(), "half": whole[: len(whole) // 2]}
    path.write_text(contents.get(damage, damage))
    assert calls.find(call) is None
    assert calls.find(call) is None
    assert [str(path) in record.message for record in caplog.records] == [True]
    calls.put(call, request("a"), REPLY, None)
    assert calls.find(call) == REPLY


def test_discarded_replies_are_kept_and_counted(calls: CallStore, tmp_path: Path) -> None:
    call = calls.hash(request("a"))
    calls.discard(call, "nothing there yet")
    for attempt in (1, 2, 3):
        assert calls.attempt(call) == attempt
        calls.put(call, request("a"), replace(REPLY, text=f"attempt {attempt}"), 0.5)
        calls.discard(call, f"reason {attempt}")
        assert calls.find(call) is None
    kept = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("*.json"))]
    assert [(row["attempt"], row["discarded"], row["reply"]["text"]) for row in kept] == [
        (n, f"reason {n}", f"attempt {n}") for n in (1, 2, 3)
    ]


def test_a_folder_that_cannot_be_written_to_is_a_user_error(calls: CallStore, tmp_path: Path) -> None:
    call = calls.hash(request("a"))
    (tmp_path / call[:2]).write_text("a file where the folder should be")
    with pytest.raises(UserError, match="run again"):
        calls.put(call, request("a"), REPLY, None)


def test_one_thread_claims_a_call_at_a_time(calls: CallStore, tmp_path: Path) -> None:
    call, other = calls.hash(request("a")), calls.hash(request("b"))
    seen: list[Any] = []

    def elsewhere() -> None:
        with CallStore(tmp_path, IDENTITY).claim(call) as first, calls.claim(other) as second:
            seen.append((first, second))

    def run() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    with calls.claim(call) as claimed:
        assert claimed
        run()
    run()
    assert seen == [(False, True), (True, True)]


HOLD = """
import sys, time
from pathlib import Path
from aipo_lab.judging.store import CallStore
with CallStore(Path(sys.argv[1]), {}).claim(sys.argv[2]) as claimed:
    print(claimed, flush=True)
    time.sleep(60)
"""


def test_one_process_claims_a_call_at_a_time_and_a_killed_one_none(calls: CallStore, tmp_path: Path) -> None:
    call, other = calls.hash(request("a")), calls.hash(request("b"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), call], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "True\n"
        with calls.claim(call) as mine, calls.claim(other) as free:
            assert (mine, free) == (False, True)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        with calls.claim(call) as mine:
            assert mine


def test_a_forked_child_inherits_no_claim(calls: CallStore, tmp_path: Path) -> None:
    call = calls.hash(request("a"))
    with calls.claim(call):
        child = os.fork()
        if child == 0:
            with CallStore(tmp_path, IDENTITY).claim(call) as claimed:
                os._exit(10 if claimed else 11)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
    child = os.fork()
    if child == 0:
        with CallStore(tmp_path, IDENTITY).claim(call) as claimed:
            os._exit(10 if claimed else 11)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
