from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import Judge, JudgeReply, JudgeRequest, Message, count_calls
from aipo_lab.judging.money import (
    Budget,
    BudgetReached,
    CostEstimate,
    Price,
    estimate_cost,
    find_price,
    price_table,
)
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings

from .conftest import request, requests, silent
from .judge_server import Body, JudgeServer

JudgeOn = Callable[..., Judge]
# a token costs 2**-10 USD, so that sums are exact
PRICE = Price(input=1e6 / 1024, output=1e6 / 1024)
REQUEST_BYTES = 16  # 10 tokens of the chat format and of padding come on top


def asked(n: int) -> list[JudgeRequest]:
    """Requests of equal size: at most 16 + 16 prompt tokens and 32 completion tokens, 64 in all."""
    texts = [f"{number:0{REQUEST_BYTES}d}" for number in range(n)]
    made = [request(text, max_tokens=32) for text in texts]
    assert {one.most_prompt_tokens() for one in made} == {32}
    return made


def spending_server(tokens: int = 8) -> JudgeServer:
    """Every call costs 2 * `tokens` tokens."""
    return JudgeServer(
        lambda body: "ok",
        prompt_tokens=lambda body: tokens,
        completion_tokens=lambda body, text: tokens,
        latency_s=0.005,
    )


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_limit_is_used_to_the_last_call_that_surely_fits(judge_on: JudgeOn, concurrency: int) -> None:
    units: list[str] = []
    with spending_server() as server:
        settings = {"prices": {"gpt-4": PRICE}, "concurrency": concurrency}
        # 16 tokens each, 64 reserved: after n calls the next starts if 16 n + 64 <= 200, so the ninth is the last
        judge = judge_on(server, **settings, max_cost_usd=200 / 1024)
        with pytest.raises(BudgetReached) as raised:
            judge.ask(asked(30), lambda done, total, unit: units.append(unit))
        assert server.answered_total == 9
        assert "9 calls of this evaluation were answered" in str(raised.value)
        assert "21 calls" in str(raised.value)
        assert "--max-cost" in str(raised.value)
        assert units[-1] == f"calls (${144 / 1024:.2f})"
        again = judge_on(server, **settings, max_cost_usd=1.0)
        assert all(isinstance(outcome, JudgeReply) for outcome in again.ask(asked(30), silent))
        assert server.answered_total == 30
        assert server.answered_once()


def test_a_limit_that_just_suffices_suffices(judge_on: JudgeOn) -> None:
    with spending_server(32) as server:
        judge = judge_on(server, prices={"gpt-4": PRICE}, max_cost_usd=10 * 64 / 1024)
        assert len(judge.ask(asked(10), silent)) == 10
        with pytest.raises(BudgetReached):
            judge.ask(asked(11), silent)
    assert server.answered_total == 10


@pytest.mark.parametrize(("n", "said"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (1204, "1,204 calls")])
def test_calls_are_counted_as_a_person_does(n: int, said: str) -> None:
    assert count_calls(n) == said
    assert str(CostEstimate(n, 0, 0, 0.0)).startswith(f"{said}, ")


def test_stored_replies_are_free_even_without_money(judge_on: JudgeOn) -> None:
    with spending_server() as server:
        judge_on(server, prices={"gpt-4": PRICE}).ask(asked(5), silent)
        judge = judge_on(server, prices={"gpt-4": PRICE}, max_cost_usd=0.0)
        assert len(judge.ask(asked(5), silent)) == 5
        with pytest.raises(BudgetReached, match="0 calls of this evaluation"):
            judge.ask(asked(6), silent)


def test_judges_can_share_one_budget(tmp_path: Path) -> None:
    budget = Budget(200 / 1024)
    with spending_server() as server:
        for model, expected in (("a", 9), ("b", 9)):
            settings = JudgeSettings(model=model, base_url=server.base_url, prices={model: PRICE})
            with pytest.raises(BudgetReached):
                open_judge(settings, tmp_path, budget=budget).ask(asked(30), silent)
            assert server.answered_total == expected


def test_failed_calls_give_their_reservation_back(judge_on: JudgeOn) -> None:
    def fault(body: Body, n: int) -> str | None:
        return "server_error" if int(body["messages"][0]["content"]) % 2 else None

    with spending_server() as server:
        server.fault = fault
        judge = judge_on(server, prices={"gpt-4": PRICE}, max_cost_usd=200 / 1024, attempts=1, concurrency=1)
        outcomes = judge.ask(asked(17), silent)
    assert sum(isinstance(outcome, JudgeReply) for outcome in outcomes) == 9  # as without the failures


def test_each_file_holds_its_cost(judge_on: JudgeOn, tmp_path: Path) -> None:
    with spending_server() as server:
        judge_on(server, model="gpt-4o").ask(asked(1), silent)
        judge_on(server, model="unheard-of").ask(asked(1), silent)
    costs = {}
    for path in (tmp_path / "calls").rglob("*.json"):
        value = json.loads(path.read_text())
        costs[value["identity"]["model"]] = value["cost_usd"]
    assert costs == {"gpt-4o": pytest.approx((8 * 2.5 + 8 * 10) / 1e6), "unheard-of": None}


def test_an_unknown_price_is_said_and_forbids_a_limit(judge_on: JudgeOn) -> None:
    units: list[str] = []
    with spending_server() as server:
        judge_on(server, model="mine").ask(asked(1), lambda done, total, unit: units.append(unit))
        with pytest.raises(UserError, match=r"price of the judge 'mine'.*prices: \{mine: \{input"):
            judge_on(server, model="mine", max_cost_usd=5)
    assert set(units) == {"calls (price unknown)"}


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=30), st.floats(0, 40))
def test_a_budget_never_passes_its_limit(calls: list[tuple[float, float]], limit_usd: float) -> None:
    budget = Budget(limit_usd)
    under_way = []
    for most_usd, share in calls:
        if budget.reserve(most_usd):
            under_way.append((most_usd, most_usd * share))
        assert budget.spent_usd + sum(most for most, _ in under_way) <= limit_usd + 1e-9
        if len(under_way) > 3:
            budget.settle(*under_way.pop(0))
    for one in under_way:
        budget.settle(*one)
    assert not budget.has_reservations
    assert budget.spent_usd <= limit_usd + 1e-9


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_the_estimate_of_a_prompt_is_below_its_bound(texts: list[str]) -> None:
    one = JudgeRequest(tuple(Message("user", text) for text in texts), 1, 0.0)
    assert one.likely_prompt_tokens() <= one.most_prompt_tokens()


def test_the_bound_holds_for_a_real_byte_level_vocabulary() -> None:
    from transformers import AutoTokenizer

    from aipo_lab.assets.library import find
    from aipo_lab.core.errors import UserError as Absent

    try:
        tokenizer = AutoTokenizer.from_pretrained(find("smollm2-135m"))
    except Absent as error:
        pytest.skip(str(error))
    for text in ("plain words", "日本語のテキスト", "🙂🙃" * 20, "\x00\x01", "    " * 30, "ﷺ"):
        one = request(text)
        assert len(tokenizer(text)["input_ids"]) <= one.most_prompt_tokens()


def test_the_estimate_counts_equal_requests_once_and_says_what_it_is() -> None:
    one, other = request("x" * 400, max_tokens=100), request("y" * 800, max_tokens=50)
    estimate = estimate_cost([one, other, one], find_price("gpt-4", {}))
    assert (estimate.calls, estimate.prompt_tokens, estimate.completion_tokens) == (2, 108 + 208, 150)
    assert estimate.usd == pytest.approx((316 * 30 + 150 * 60) / 1e6)
    assert "2 calls, about $0.02" in str(estimate)
    assert "estimate" in str(estimate)
    assert "cost unknown" in str(estimate_cost(requests(2), None))


def test_prices_are_known_dated_and_can_be_overridden() -> None:
    table = price_table()
    assert table.source.startswith("https://")
    assert table.checked.year >= 2026
    for model, values in {"gpt-4-1106-preview": (10, 30), "gpt-4": (30, 60), "gpt-4o": (2.5, 10)}.items():
        price = find_price(model, {})
        assert price is not None
        assert (price.input, price.output) == values
    assert find_price("gpt-4", {"gpt-4": PRICE}) == PRICE
    assert find_price("gpt-9", {}) is None
