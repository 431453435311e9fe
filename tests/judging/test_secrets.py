"""The key is in the environment and in the calls' headers, and nowhere else."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import Judge, Unanswered
from aipo_lab.judging.endpoint import find_endpoint
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.replies import SHOWN_CHARACTERS
from aipo_lab.judging.settings import JudgeSettings

from .conftest import KEY, request, requests, silent
from .judge_server import STATUS_FAULTS, TRANSIENT_FAULTS, JudgeServer

JudgeOn = Callable[..., Judge]


@pytest.mark.parametrize("engine", ["openai", "azure"])
def test_the_key_is_sent_and_nowhere_else(
    judge_on: JudgeOn,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-06-01")
    caplog.set_level(logging.DEBUG)
    kinds = [*TRANSIENT_FAULTS, *STATUS_FAULTS, "hang"]
    shown: list[str] = []
    with JudgeServer(lambda body: f"my key is {KEY}") as server:
        base_url = server.url if engine == "azure" else server.base_url
        judge = judge_on(server, engine=engine, base_url=base_url, attempts=2, timeout_s=0.2)
        shown += [repr(judge), repr(vars(judge)), str(find_endpoint(JudgeSettings(base_url=base_url)))]
        shown += [str(judge.ask([request("plain")], silent))]
        for kind in kinds:
            server.fault = lambda body, n, kind=kind: kind
            try:
                shown.append(str(judge.ask([request(kind)], silent)))
            except UserError as error:
                shown += ["".join(traceback.format_exception(error)), repr(error)]
    assert all(KEY in str(call.headers) for call in server.calls)
    assert sum("[key]" in text for text in shown) >= 4  # the server did echo it
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("my key is [key]" in text for text in files)
    everything = [*shown, *files, caplog.text, *capfd.readouterr()]
    assert not [text for text in everything if KEY in text]


def test_no_part_of_a_key_survives_the_shortening_of_a_message(judge_on: JudgeOn) -> None:
    for padding in range(SHOWN_CHARACTERS - len(KEY) - 20, SHOWN_CHARACTERS, 7):
        page = "x" * padding + KEY * 3
        with JudgeServer(lambda body: "", fault=lambda body, n: "junk", junk=page) as server:
            (outcome,) = judge_on(server, attempts=1).ask([request(str(padding))], silent)
        assert isinstance(outcome, Unanswered)
        assert KEY[:10] not in outcome.reason


def test_a_redirect_does_not_carry_the_key_away(judge_on: JudgeOn) -> None:
    with (
        JudgeServer(lambda body: "stolen") as thief,
        JudgeServer(lambda body: "", redirect_to=thief.base_url) as server,
    ):
        with pytest.raises(UserError, match="base_url"):
            judge_on(server).ask(requests(2), silent)
        assert not thief.calls


def test_servers_on_this_machine_need_no_key(judge_on: JudgeOn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with JudgeServer(lambda body: "ok") as server:
        judge_on(server).ask([request("a")], silent)
    assert "Authorization" not in server.calls[0].headers


def test_placeholder_keys_are_no_secrets(judge_on: JudgeOn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    with JudgeServer(lambda body: "the glass is EMPTY") as server:
        (reply,) = judge_on(server).ask([request("a")], silent)
    assert getattr(reply, "text", "") == "the glass is EMPTY"


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        open_judge(JudgeSettings(model="gpt-4"), tmp_path)
    with pytest.raises(UserError, match="MY_KEY is not set"):
        open_judge(JudgeSettings(model="gpt-4", api_key_variable="MY_KEY"), tmp_path)
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    with pytest.raises(UserError, match=r"(?s)ENDPOINT.*OPENAI_API_VERSION.*AZURE_OPENAI_API_KEY"):
        open_judge(JudgeSettings(model="gpt-4", engine="azure"), tmp_path)


@pytest.mark.parametrize(
    "url", ["api.example.com/v1", "ftp://example.com", "http://", "http://h:0/v1", "http://h:x/v1", "http://[::1"]
)
def test_addresses_are_checked(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="base_url"):
        open_judge(JudgeSettings(model="gpt-4", base_url=url), tmp_path)


@pytest.mark.parametrize("url", [f"https://me:{KEY}@example.com", f"https://example.com/v1?key={KEY}"])
def test_addresses_hold_no_secrets_and_are_not_shown_if_they_do(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="environment variable") as raised:
        open_judge(JudgeSettings(model="gpt-4", base_url=url), tmp_path)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("key", [f"{KEY}\nX-Other: 1", f"{KEY} {KEY}", f"{KEY}é"])
def test_broken_keys_are_refused_without_showing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="characters that no key has") as raised:
        open_judge(JudgeSettings(model="gpt-4"), tmp_path)
    assert KEY not in str(raised.value)


def test_the_white_space_around_a_key_is_not_part_of_it(judge_on: JudgeOn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    with JudgeServer(lambda body: "ok") as server:
        judge_on(server).ask([request("a")], silent)
    assert server.calls[0].headers["Authorization"] == f"Bearer {KEY}"
