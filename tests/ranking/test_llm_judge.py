"""The `llm_judge` ranker over a real server on loopback: what it asks, how it reads, averages, excludes and fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging.judge_server import Body, JudgeServer
from pydantic import ValidationError

from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.ranking.llm_judge import meta
from aipo_lab.ranking.llm_judge.ranker import LLMJudge
from aipo_lab.ranking.llm_judge.reading import FIRST, SECOND, TIE, read_score, read_verdict
from aipo_lab.ranking.llm_judge.settings import SCORE_PATTERN, VERDICT_PATTERN, LLMJudgeSettings, resources
from aipo_lab.ranking.llm_judge.templates import PLACES, fill, fill_to_fit, shipped
from aipo_lab.ranking.ranker import RankerContext


def silent(*_: Any) -> None:
    """No progress."""


def row(*texts: str, id_: str = "p") -> dict[str, Any]:
    return {"id": id_, "prompt": "What is a fox?", "responses": [{"text": text} for text in texts]}


Open = Callable[..., LLMJudge]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


@pytest.fixture
def judge_of(tmp_path: Path) -> Open:
    def open_on(server: JudgeServer, **settings: Any) -> LLMJudge:
        judge = {"model": "gpt-4", "base_url": server.base_url, "backoff_s": 0.01, "concurrency": 1}
        made = LLMJudgeSettings.model_validate({"ranker": "llm_judge", "judge": judge, **settings})
        calls = open_judge(JudgeSettings.model_validate(judge), tmp_path / "calls")
        return LLMJudge(made, RankerContext(None, 0, "cpu", judge=lambda: calls))

    return open_on


def answer_in(body: Body, name: str = "answer") -> str:
    content: str = body["messages"][-1]["content"]
    return content.split(f"<{name}>\n", 1)[1].split(f"\n</{name}>", 1)[0]


# ---- reading


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("It is fine.\nScore: 4", 4),
        ("Score: 2 at first; no, Score: 3", 3),
        ("**Score:** 5", 5),
        ("score: 4/5", 4),
        ("Score: 3.5", 3.5),
        ("Score: 35", None),
        ("Score: 9", None),
        ("Score: 4.75.2", None),
        ("four of five", None),
        ("", None),
    ],
)
def test_the_last_score_counts(text: str, score: float | None) -> None:
    assert read_score(text, SCORE_PATTERN) == score


@given(st.text(), st.integers(0, 5))
def test_words_before_the_score_change_nothing(words: str, points: int) -> None:
    assert read_score(f"{words}\nScore: {points}", SCORE_PATTERN) == points


def test_verdicts_name_the_first_the_second_or_neither() -> None:
    read = {text: read_verdict(text, VERDICT_PATTERN) for text in ("[[A]]", "[[A]] no, [[B]]", "[[C]]", "A", "[[D]]")}
    assert read == {"[[A]]": FIRST, "[[A]] no, [[B]]": SECOND, "[[C]]": TIE, "A": None, "[[D]]": None}
    assert [read_verdict(f"{n} is worth more.", "([12]) is worth") for n in (1, 2)] == [FIRST, SECOND]


# ---- templates


def test_every_shipped_template_has_its_places() -> None:
    for kind, places in PLACES.items():
        assert all(f"{{{name}}}" in shipped(kind) for name in places)


def test_what_is_put_in_is_never_taken_for_a_place() -> None:
    assert (
        fill("{prompt}|{response}|{x}", {"prompt": "{response}", "response": "{prompt}"}) == "{response}|{prompt}|{x}"
    )


def test_the_longest_text_is_cut_to_fit_and_what_never_fits_is_none() -> None:
    texts = {"prompt": "short", "response": "x" * 500}
    filled, is_cut = fill_to_fit("{prompt}: {response}", texts, lambda text: len(text) / 100)
    assert filled is not None and filled.startswith("short: xxx") and 60 < len(filled) <= 100 and is_cut
    assert fill_to_fit("{prompt}: {response}", texts, lambda text: len(text) / 600) == (f"short: {'x' * 500}", False)
    assert fill_to_fit("y" * 50 + "{prompt}", {"prompt": "a"}, lambda text: len(text) / 10) == (None, True)


def test_a_template_may_be_a_file_and_its_text_is_in_the_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Grade {response} to {prompt}", encoding="utf-8")
    settings = LLMJudgeSettings(template=str(file))
    assert settings.key_values()["template"] == "Grade {response} to {prompt}"
    assert LLMJudgeSettings().key_values()["template"] == shipped("additive")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"template": "no place {prompt}"}, r"lacks \{response\}"),
        ({"template": "nowhere.txt"}, "cannot be read from"),
        ({"mode": "pairwise", "template": "{prompt} {response}"}, r"lacks \{response_a\}, \{response_b\}"),
        ({"temperature": 0}, "would be copies"),
        ({"meta": {}, "samples": 1}, "samples to 2 or more"),
        ({"score_pattern": "Score"}, "must have one group"),
        ({"score_pattern": "("}, "no regular expression"),
        ({"meta": {"template": "{prompt}"}}, "the meta template lacks"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LLMJudgeSettings.model_validate(settings)


# ---- points


def test_samples_are_averaged_and_what_cannot_be_read_is_left_out_and_counted(judge_of: Open) -> None:
    said: dict[str, Iterator[str]] = {
        "good": iter(["Score: 5", "no idea", "Score: 4"]),
        "bad": iter(["Score: 0", "Score: 1", "Score: 2"]),
        "odd": iter(["hm", "hm", "hm"]),
    }
    with JudgeServer(lambda body: next(said[answer_in(body)])) as server:
        ranker = judge_of(server, samples=3)
        asked = row("good", "bad", "odd", "good")
        assert list(ranker.scores([asked], silent)) == [[4.5, 1.0, None, 4.5]]
        assert len(server.calls) == 9  # the copy is not asked about again
        assert "What is a fox?" in server.calls[0].content and {call.body["temperature"] for call in server.calls} == {
            0.7
        }
    summary = ranker.conclude([{"id": "p", **ranker.record(asked)}]).summary
    assert (summary["judgments"], summary["unparsable"], summary["unanswered"]) == (9, 4, 0)


def test_replies_are_stored_and_useless_ones_are_asked_for_again(judge_of: Open) -> None:
    answers = iter(["hm", "Score: 1", "Score: 3"])
    with JudgeServer(lambda _: next(answers)) as server:
        assert sorted(next(iter(judge_of(server, samples=2).scores([row("a")], silent)))) == [1.0]
        assert list(judge_of(server, samples=2).scores([row("a")], silent)) == [[2.0]]
        assert len(server.calls) == 3


def test_a_call_that_fails_for_good_is_excluded(judge_of: Open) -> None:
    with JudgeServer(
        lambda _: "Score: 2", fault=lambda body, _: "too_long" if answer_in(body) == "long" else None
    ) as server:
        ranker, asked = judge_of(server, samples=1), row("long", "short")
        assert list(ranker.scores([asked], silent)) == [[None, 2.0]]
        assert ranker.conclude([{"id": "p", **ranker.record(asked)}]).summary["unanswered"] == 1


def test_a_judge_that_never_gives_a_score_is_named(judge_of: Open) -> None:
    with JudgeServer(lambda _: "I would rather not.") as server:
        ranker, asked = judge_of(server, samples=1), row("a", "b")
        assert list(ranker.scores([asked], silent)) == [[None, None]]
        with pytest.raises(StageFailed, match=r"the judge gpt-4 gave no score in 2 judgments.*I would rather not"):
            ranker.conclude([{"id": "p", **ranker.record(asked)}])
        with pytest.raises(StageFailed, match=r"gave no score in 80 judgments"):
            ranker.scores([row(*(f"{n} {k}" for k in range(8)), id_=str(n)) for n in range(10)], silent)


def test_long_responses_are_cut_and_counted(judge_of: Open) -> None:
    with JudgeServer(lambda body: f"Score: {len(answer_in(body)) > 100:d}") as server:
        ranker, asked = judge_of(server, samples=1, max_chars=4000), row("x" * 9000, "short")
        assert list(ranker.scores([asked], silent)) == [[1.0, 0.0]]
        assert max(len(call.content) for call in server.calls) <= 4000
    assert ranker.conclude([{"id": "p", **ranker.record(asked)}]).summary["questions_cut"] == 1


# ---- verdicts


def test_win_rates_are_over_both_orders_and_ties_are_half(judge_of: Open) -> None:
    worth = {"best": 2, "good": 1, "equal": 1}

    def verdict(body: Body) -> str:
        a, b = worth[answer_in(body, "answer_a")], worth[answer_in(body, "answer_b")]
        return f"[[{'A' if a > b else 'B' if b > a else 'C'}]]"

    with JudgeServer(verdict) as server:
        ranker, asked = judge_of(server, mode="pairwise", samples=1), row("good", "best", "equal")
        assert list(ranker.scores([asked], silent)) == [[0.25, 1.0, 0.25]]
        assert len(server.calls) == 6
        assert ranker.conclude([{"id": "p", **ranker.record(asked)}]).summary["order_disagreement"] == 0
        assert list(ranker.scores([row("good", "good")], silent)) == [[0.5, 0.5]]
        assert list(ranker.scores([row("good")], silent)) == [[0.5]]


def test_a_judge_that_goes_by_place_finds_all_equal_and_is_caught(judge_of: Open) -> None:
    with JudgeServer(lambda _: "[[A]]") as server:
        ranker, asked = judge_of(server, mode="pairwise", samples=1), row("a", "b", "c")
        assert list(ranker.scores([asked], silent)) == [[0.5, 0.5, 0.5]]
        assert ranker.conclude([{"id": "p", **ranker.record(asked)}]).summary["order_disagreement"] == 1


# ---- judgments of judgments


def test_judgments_meet_in_both_orders_and_the_best_is_set_against_the_worst(judge_of: Open) -> None:
    points = iter([5, 1, 3, 2, 2, 2])

    def say(body: Body) -> str:
        if "<judgment_a>" not in body["messages"][-1]["content"]:
            return f"Score: {next(points)}"
        a, b = (int(answer_in(body, f"judgment_{one}")[-1]) for one in "ab")
        return f"[[{'A' if abs(a - 3) < abs(b - 3) else 'B' if abs(b - 3) < abs(a - 3) else 'C'}]]"  # 3 is true

    with JudgeServer(say) as server:
        ranker = judge_of(
            server, samples=3, meta={}, judge={"model": "gpt-4", "base_url": server.base_url, "concurrency": 1}
        )
        asked = row("disputed", "agreed")
        assert list(ranker.scores([asked], silent)) == [[3.0, 2.0]]
        concluded = ranker.conclude([{"id": "p", **ranker.record(asked)}])
        n_calls = len(server.calls)
    assert n_calls == 6 + 6  # three judgments, every two in both orders; of the other response all are the same
    assert concluded.summary["meta_battles"] == 6
    (pair,) = concluded.judge_pairs
    assert pair["id"] == "p/judge" and "disputed" in pair["prompt"][0]["content"]
    assert pair["chosen"][0]["content"] == "Score: 3"
    assert pair["rejected"][0]["content"] in ("Score: 5", "Score: 1") and pair["chosen_score"] > pair["rejected_score"]


def test_ratings_are_the_maximum_of_the_likelihood() -> None:
    won = [[0, 3, 4], [1, 0, 2], [0, 2, 0]]
    found = meta.ratings(won)

    def likelihood(rated: list[float]) -> float:
        prior = meta.PRIOR_GAMES / 2
        return sum(
            (won[i][j] + prior) * -math.log1p(math.exp(rated[j] - rated[i]))
            for i in range(3)
            for j in range(3)
            if i != j
        )

    assert sum(found) == pytest.approx(0, abs=1e-8)
    for k in range(3):
        for step in (-1e-3, 1e-3):
            assert likelihood([one + step * (i == k) for i, one in enumerate(found)]) < likelihood(found)


def test_a_win_in_the_place_that_wins_often_counts_less() -> None:
    record = {"judgments": [{}, {}], "battles": [[0, 1, FIRST], [1, 0, FIRST]]}
    wins = meta.PlaceWins(first=30, second=10)
    assert wins.weights() == (0.25, 0.75)
    assert meta.battle_matrix(record, wins.weights()) == [[0, 0.25], [0.25, 0]]
    turned = {"judgments": [{}, {}], "battles": [[0, 1, FIRST], [1, 0, SECOND]]}
    assert meta.battle_matrix(turned, wins.weights()) == [[0, 1.0], [0, 0]]
    assert meta.place_wins([record, turned]) == (3, 1)


def test_judgments_that_win_equally_make_no_pair() -> None:
    judgments = [{"text": text, "token_ids": None, "finish_reason": "stop"} for text in "ab"]
    record = {
        "judgments": judgments,
        "battles": [[0, 1, FIRST], [1, 0, FIRST]],
        "question": "q",
        "prompt_token_ids": None,
    }
    assert meta.judge_pair("p", record, (0.5, 0.5)) is None


def test_the_judge_of_judgments_rests_after_its_iterations() -> None:
    settings = LLMJudgeSettings(meta={"iterations": 2})
    assert [settings.at(t).meta is not None for t in range(4)] == [True, True, False, False]


def test_a_local_judge_that_is_not_there_is_an_error_before_any_work() -> None:
    with pytest.raises(UserError, match="is not a model folder"):
        resources(LLMJudgeSettings(judge={"engine": "local", "model": "/nowhere"}))
