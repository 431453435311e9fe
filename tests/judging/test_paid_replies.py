"""What is paid is what is counted: unusable replies, calls whose bill nobody knows, and the limit above them all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import Judge, JudgeReply, Unanswered
from aipo_lab.judging.ledger import SharedBudget
from aipo_lab.judging.money import Budget, BudgetReached, Price, Purse
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings

from .conftest import request, requests, silent
from .judge_server import UNUSABLE_FAULTS, Body, JudgeServer

JudgeOn = Callable[..., Judge]
USD_PER_TOKEN = 2.0**-10
PRICE = Price(input=1e6 * USD_PER_TOKEN, output=1e6 * USD_PER_TOKEN)
REPEATING = ("filtered", "only_reasoning")
"""At temperature 0 these would only be filtered, or cut off, again."""


def judge_with(server: JudgeServer, folder: Path, budget: Purse, **settings: object) -> Judge:
    quick = {"model": "gpt-4", "base_url": server.base_url, "backoff_s": 0.01, "timeout_s": 5.0}
    return open_judge(
        JudgeSettings.model_validate({**quick, "prices": {"gpt-4": PRICE}, **settings}), folder, budget=budget
    )


@pytest.mark.parametrize("kind", UNUSABLE_FAULTS)
def test_an_unusable_reply_is_booked_stored_and_asked_once_a_run(tmp_path: Path, kind: str) -> None:
    budget = Budget(None)
    with JudgeServer(lambda body: "two words", fault=lambda body, n: kind) as server:
        for judge in (judge_with(server, tmp_path, budget), judge_with(server, tmp_path, budget)):
            (outcome,) = judge.ask([request("a")], silent)
            assert isinstance(outcome, Unanswered), outcome
        assert len(server.calls) == 1
        assert budget.spent_usd == server.billed_tokens * USD_PER_TOKEN > 0
        assert (budget.n_calls, budget.lost_usd) == (1, 0.0)
        (path,) = tmp_path.rglob("*.json")
        stored = json.loads(path.read_text())
        assert stored["cost_usd"] == budget.spent_usd
        assert stored["reply"]["problem"]

        server.fault = lambda body, n: None  # a later run asks again what could turn out otherwise
        (later,) = judge_with(server, tmp_path, Budget(None)).ask([request("a")], silent)
    assert len(server.calls) == (1 if kind in REPEATING else 2)
    assert isinstance(later, Unanswered if kind in REPEATING else JudgeReply)


def test_sampled_replies_that_were_filtered_are_asked_again_in_a_later_run(tmp_path: Path) -> None:
    with JudgeServer(lambda body: "ok", fault=lambda body, n: "filtered" if n == 0 else None) as server:
        for expected in (Unanswered, JudgeReply):
            (outcome,) = judge_with(server, tmp_path, Budget(None)).ask([request("a", temperature=0.5)], silent)
            assert isinstance(outcome, expected)


def test_a_discarded_reply_is_not_paid_again_by_another_judge_of_the_run(tmp_path: Path) -> None:
    budget = Budget(None)
    with JudgeServer(lambda body: "no verdict") as server:
        first = judge_with(server, tmp_path, budget)
        first.ask([request("a")], silent)
        first.discard(request("a"), "no rating")
        (again,) = judge_with(server, tmp_path, budget).ask([request("a")], silent)
        assert isinstance(again, JudgeReply)
        assert len(server.calls) == 1
        judge_with(server, tmp_path, Budget(None)).ask([request("a")], silent)
    assert len(server.calls) == 2


@pytest.mark.parametrize(("temperature", "n_calls"), [(0.0, 2), (0.5, 4)])
def test_a_greedy_reply_that_came_twice_is_not_paid_a_third_time(
    tmp_path: Path, temperature: float, n_calls: int
) -> None:
    with JudgeServer(lambda body: "[[rating]]") as server:
        for _run in range(4):
            judge = judge_with(server, tmp_path, Budget(None))
            (reply,) = judge.ask([request("a", temperature=temperature)], silent)
            assert isinstance(reply, JudgeReply)
            judge.discard(request("a", temperature=temperature), "no rating")
        assert len(server.calls) == n_calls


def test_a_reply_without_logprobs_is_booked_though_it_ends_everything(tmp_path: Path) -> None:
    budget = Budget(None)
    with JudgeServer(lambda body: "m") as server:
        with pytest.raises(UserError, match="no log-probabilities"):
            judge_with(server, tmp_path, budget).ask([request("a", top_logprobs=5)], silent)
        assert budget.spent_usd == server.billed_tokens * USD_PER_TOKEN > 0


@pytest.mark.parametrize(
    ("kind", "n_lost"),
    [("hang", 2), ("drop", 2), ("cut_off", 2), ("truncated", 2), ("junk", 2), ("server_error", 0), ("rate_limited", 0)],
)
def test_calls_whose_bill_nobody_knows_count_at_their_worst_case(tmp_path: Path, kind: str, n_lost: int) -> None:
    budget = Budget(None)
    with JudgeServer(lambda body: "ok", fault=lambda body, n: kind, hang_s=1.0) as server:
        (outcome,) = judge_with(server, tmp_path, budget, attempts=2, timeout_s=0.2).ask([request("a")], silent)
        assert isinstance(outcome, Unanswered)
        assert len(server.calls) == 2
    worst_usd = PRICE.most_usd(request("a"))
    assert (budget.spent_usd, budget.lost_usd) == (0.0, n_lost * worst_usd)


def test_a_call_that_never_left_costs_nothing(tmp_path: Path) -> None:
    budget = Budget(None)
    with JudgeServer(lambda body: "ok") as server:
        judge = judge_with(server, tmp_path, budget, attempts=2)
    judge.ask([request("a")], silent)
    assert (budget.spent_usd, budget.lost_usd) == (0.0, 0.0)


def trouble(body: Body, n: int) -> str | None:
    """Every kind of reply that is billed without being of use, and usable ones."""
    kinds = (*UNUSABLE_FAULTS, "drop", "truncated", None, None)
    return kinds[(int(body["messages"][0]["content"].split()[-1]) + n) % len(kinds)]


@pytest.mark.parametrize("limit_calls", [3, 10.5, 25])
def test_the_limit_is_never_passed_by_bills_for_unusable_replies(tmp_path: Path, limit_calls: float) -> None:
    limit_usd = limit_calls * PRICE.most_usd(request("question 10"))
    with JudgeServer(
        lambda body: "ok",
        fault=trouble,
        latency_s=0.01,
        prompt_tokens=lambda body: len(body["messages"][0]["content"]) + 16,
        completion_tokens=lambda body, text: 16,
    ) as server:
        budget = Budget(limit_usd)
        with pytest.raises(BudgetReached):
            judge_with(server, tmp_path, budget, concurrency=8).ask(requests(60), silent)
        assert 0 < server.billed_tokens * USD_PER_TOKEN <= budget.spent_usd + budget.lost_usd <= limit_usd
        assert not budget.has_reservations


ASK = """
import json, sys
from pathlib import Path
from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeRequest, Message
from aipo_lab.judging.ledger import SharedBudget
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings
settings = JudgeSettings.model_validate_json(sys.argv[1])
asked = [JudgeRequest((Message("user", f"{sys.argv[4]} {n}"),), 16, 0.0) for n in range(40)]
try:
    open_judge(settings, Path(sys.argv[2]), budget=SharedBudget.open(Path(sys.argv[3]))).ask(asked, lambda *_: None)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("overhead_tokens", [0, 500])
def test_processes_together_never_pass_the_limit(tmp_path: Path, overhead_tokens: int) -> None:
    """`overhead_tokens`: what the server bills for a system prompt of its own, beyond any bound on what is sent."""
    limit_usd = 12_000 * USD_PER_TOKEN
    budget = SharedBudget.create(tmp_path / "ledger", limit_usd)
    with JudgeServer(
        lambda body: "ok",
        fault=trouble,
        latency_s=0.01,
        prompt_tokens=lambda body: len(body["messages"][0]["content"]) + overhead_tokens,
        completion_tokens=lambda body, text: 200,  # reasoning that the cap does not hold
    ) as server:
        settings = JudgeSettings(
            model="gpt-4", base_url=server.base_url, backoff_s=0.01, concurrency=6, prices={"gpt-4": PRICE}
        ).model_dump_json()
        command = [sys.executable, "-c", ASK, settings, str(tmp_path / "calls"), str(tmp_path / "ledger")]
        workers = [
            subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for name in ("a", "b", "c")
        ]
        said = ""
        for worker in workers:
            output, errors = worker.communicate(timeout=60)
            assert worker.returncode == 0, errors
            said += output
        assert "could pass the cost limit" in said
        assert limit_usd / 2 < server.billed_tokens * USD_PER_TOKEN
        assert server.billed_tokens * USD_PER_TOKEN <= budget.spent_usd + budget.lost_usd <= limit_usd


@pytest.mark.parametrize("is_shared", [False, True])
def test_what_a_server_bills_beyond_the_bound_is_known_before_many_calls_are_made(
    tmp_path: Path, is_shared: bool
) -> None:
    limit_usd = 600 * USD_PER_TOKEN  # room for ten calls at their worst case, and for one at what is billed
    budget = SharedBudget.create(tmp_path / "ledger", limit_usd) if is_shared else Budget(limit_usd)
    with JudgeServer(
        lambda body: "ok", latency_s=0.05, prompt_tokens=lambda body: 450, completion_tokens=lambda body, text: 50
    ) as server:
        with pytest.raises(BudgetReached):
            judge_with(server, tmp_path / "calls", budget, concurrency=8).ask(requests(10), silent)
        assert server.billed_tokens == 500


@pytest.mark.parametrize("text", ["日本語のテキスト" * 20, "ﷺ" * 50, "🙂" * 50, "a" * 100])
def test_the_bound_on_prompt_tokens_holds_where_each_byte_is_a_token_even_after_normalisation(text: str) -> None:
    import unicodedata

    bound = request(text).most_prompt_tokens()
    assert bound >= len(text.encode())
    assert bound >= len(unicodedata.normalize("NFKC", text).encode())


@pytest.mark.parametrize("kind", ["null_content", "too_long"])
def test_a_judge_that_gives_nothing_usable_is_given_up_soon(judge_on: JudgeOn, kind: str) -> None:
    with JudgeServer(lambda body: "ok", fault=lambda body, n: kind) as server:
        outcomes = judge_on(server, concurrency=4).ask(requests(200), silent)
        assert len(server.calls) < 16 + 4
    assert all(isinstance(outcome, Unanswered) for outcome in outcomes)
    assert "16 calls in a row gave no usable reply, the last with: " in outcomes[-1].reason


def test_usable_replies_among_refused_ones_keep_a_judge_going(judge_on: JudgeOn) -> None:
    def fault(body: Body, n: int) -> str | None:
        return None if body["messages"][0]["content"].endswith("0") else "too_long"

    with JudgeServer(lambda body: "ok", fault=fault) as server:
        outcomes = judge_on(server, concurrency=1).ask(requests(60), silent)
        assert len(server.calls) == 60
    assert sum(isinstance(outcome, JudgeReply) for outcome in outcomes) == 6
