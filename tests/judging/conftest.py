"""A planted key in the environment, and judges on scripted servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.judging.calls import Judge, JudgeRequest, Message
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings

from .judge_server import JudgeServer

KEY = "sk-planted-7c1d9f20e4b8"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION", "AIPO_LAB_JUDGE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)


@pytest.fixture
def judge_on(tmp_path: Path) -> Callable[..., Judge]:
    """Opens a judge on a server; quick to try again unless `settings` say otherwise."""

    def judge(server: JudgeServer, **settings: Any) -> Judge:
        quick = {"model": "gpt-4", "base_url": server.base_url, "backoff_s": 0.01, "timeout_s": 5.0}
        return open_judge(JudgeSettings(**{**quick, **settings}), tmp_path / "calls")

    return judge


def request(text: str, **fields: Any) -> JudgeRequest:
    return JudgeRequest((Message("user", text),), **{"max_tokens": 16, "temperature": 0.0, **fields})


def requests(n: int, **fields: Any) -> list[JudgeRequest]:
    return [request(f"question {number}", **fields) for number in range(n)]


def silent(done: int, total: int, unit: str) -> None:
    """No progress."""
