"""AlpacaEval 2 judged over HTTP: failures that the next run asks again, and judges without log-probabilities."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alpaca_eval_files import (
    answers_to,
    install_asset,
    judged_by,
    shown,
)
from judging.judge_server import JudgeServer

from aipo_lab.benchmarks.alpaca_eval.benchmark import AlpacaEval
from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import Judge
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings


@pytest.fixture(autouse=True)
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_asset(tmp_path / "cache", monkeypatch)


def http_logprobs(body: dict[str, Any]) -> dict[str, float]:
    _, first, second = shown(body["messages"][-1]["content"])
    return {"m": -0.1, "M": -2.4} if len(first) > len(second) else {"m": -2.4, "M": -0.1}


def open_http_judge(server: JudgeServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    settings = JudgeSettings(model="gpt-4-1106-preview", base_url=server.base_url, attempts=2, backoff_s=0.01)
    return open_judge(settings, folder)


def test_ten_questions_over_http_with_failures_that_the_next_run_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = AlpacaEval.load(10)
    answers = answers_to(benchmark, lambda n: "y" * (500 * (n % 7)))
    failing = {question.turns[0] for question in benchmark.questions[:2]}
    unparsable = benchmark.questions[2].turns[0]
    state = {"broken": True}

    def fault(body: dict[str, Any], n: int) -> str | None:
        return "server_error" if state["broken"] and shown(body["messages"][-1]["content"])[0] in failing else None

    def logprobs(body: dict[str, Any]) -> dict[str, float]:
        if state["broken"] and shown(body["messages"][-1]["content"])[0] == unparsable:
            return {"I": -0.2, "The": -3.0}
        return http_logprobs(body)

    with JudgeServer(lambda body: "m", logprobs=logprobs, fault=fault) as server:
        first = judged_by(open_http_judge(server, tmp_path / "calls", monkeypatch), benchmark, answers)
        assert set(first.unjudged) == {question.id for question in benchmark.questions[:3]}
        assert server.answered_total == 8
        state["broken"] = False
        second = judged_by(open_http_judge(server, tmp_path / "calls", monkeypatch), benchmark, answers)
        assert dict(second.unjudged) == {}
        assert server.answered_total == 8 + 3  # only what had no verdict was asked again
        third = judged_by(open_http_judge(server, tmp_path / "calls", monkeypatch), benchmark, answers)
        assert server.answered_total == 11
    assert third == second
    p = math.exp(-0.1) / (math.exp(-0.1) + math.exp(-2.4))
    for question, row in zip(benchmark.questions, second.judgments, strict=True):
        longer = 500 * (int(question.id) % 7) > len(row["output_1"])
        assert row["preference"] == pytest.approx(1 + (p if longer else 1 - p), abs=1e-12)
    assert first.scores["win_rate"].n == 7
    assert second.scores["win_rate"].value == pytest.approx(
        100 * np.mean([row["preference"] - 1 for row in second.judgments])
    )


def test_a_judge_without_log_probabilities_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = AlpacaEval.load(3)
    with JudgeServer(lambda body: "m") as server:
        judge = open_http_judge(server, tmp_path / "calls", monkeypatch)
        with pytest.raises(UserError, match="log-probabilities"):
            judged_by(judge, benchmark, answers_to(benchmark, str))
