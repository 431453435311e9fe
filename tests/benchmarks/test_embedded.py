"""The embedded benchmarks: judging by hand-made answers, and a policy against itself."""

from __future__ import annotations

from typing import Any

import pytest

from aipo_lab.benchmarks.embedded import EmbeddedJudgeConfig, judge
from aipo_lab.benchmarks.length_control import length_controlled_win_rate
from aipo_lab.worlds.micro.instructions import parse_instruction
from aipo_lab.worlds.world import WorldConfig, get_world

FILLER = " That is worth knowing."


def config(length_bias: float = 0.05) -> EmbeddedJudgeConfig:
    return EmbeddedJudgeConfig(world=WorldConfig(name="micro", seed=0), length_bias=length_bias)


def perfect(prompt: str) -> str:
    world: Any = get_world("micro", 0)
    request = parse_instruction(prompt)
    assert request is not None
    facts = ((name, world.knowledge.value(request.entity, name)) for name in request.attributes)
    return " ".join(f"The {name} of the {request.entity} is {value}." for name, value in facts)


def answers(n: int = 40, filler: int = 0, silent: int = 0) -> list[dict[str, Any]]:
    """Perfect answers with `filler` sentences more; the first `silent` of them say nothing."""
    rows = []
    for i, prompt in enumerate(get_world("micro", 0).benchmark_prompts(n)):
        text = ("Everyone agrees." if i < silent else perfect(prompt)) + FILLER * filler
        n_tokens = len(text.split()) + text.count(".") + 1
        rows.append({"id": f"{i:06d}", "prompt": prompt, "text": text, "tokens": n_tokens, "finish_reason": "stop"})
    return rows


@pytest.mark.parametrize("length_bias", [0.0, 0.05, 1.0])
def test_answers_against_themselves_are_50_with_no_error(length_bias: float) -> None:
    rows = answers(silent=10)
    scores, judgments = judge(rows, rows, config(length_bias))
    for name in ("win_rate", "judged_win_rate", "lc_win_rate"):
        assert (scores[name].value, scores[name].se) == (50.0, 0.0), name
    assert {(one["preference"], one["judged_preference"]) for one in judgments} == {(0.5, 0.5)}


def test_quality_lengths_and_truncation_are_means_with_their_errors() -> None:
    rows = answers(silent=10)
    rows[0]["finish_reason"] = "length"
    scores, judgments = judge(rows, answers(), config())
    assert scores["quality"].value == pytest.approx(30 / 40)
    assert scores["quality"].se == pytest.approx((0.75 * 0.25 / 39) ** 0.5)
    assert scores["truncated"].value == pytest.approx(100 / 40)
    tokens, characters = ([row["tokens"] for row in rows], [len(row["text"]) for row in rows])
    assert scores["length_tokens"].value == pytest.approx(sum(tokens) / 40)
    assert scores["length_chars"].value == pytest.approx(sum(characters) / 40)
    assert all(score.n == 40 for score in scores.values())
    assert [one["quality"] for one in judgments] == [0.0] * 10 + [1.0] * 30


def test_the_win_rate_counts_wins_and_half_the_ties() -> None:
    scores, _ = judge(answers(silent=10), answers(silent=4), config(0.0))
    # 4 ties of nothing, 6 losses, 30 ties of perfect answers
    assert scores["win_rate"].value == pytest.approx(100 * (0.5 * 34 + 0.0 * 6) / 40)


def test_a_judge_with_a_taste_for_length_is_fooled_by_filler_and_the_truth_is_not() -> None:
    long, short = answers(filler=3), answers()
    biased, _ = judge(long, short, config(0.05))
    fair, _ = judge(long, short, config(0.0))
    assert biased["judged_win_rate"].value == 100
    assert biased["win_rate"].value == fair["judged_win_rate"].value == fair["win_rate"].value == 50
    assert biased["length_tokens"].value > 1.5 * judge(short, short, config())[0]["length_tokens"].value


def test_the_length_controlled_rate_compares_the_lengths_of_both_sides() -> None:
    ours = answers(filler=2)[:25] + answers(silent=40)[25:]
    theirs = answers(filler=1)
    scores, judgments = judge(ours, theirs, config(0.3))
    expected = length_controlled_win_rate(
        [one["judged_preference"] for one in judgments],
        [row["tokens"] for row in ours],
        [row["tokens"] for row in theirs],
    )
    assert scores["lc_win_rate"] == expected
    assert abs(expected.value - scores["judged_win_rate"].value) > 1


def test_the_metrics_are_those_of_the_design() -> None:
    scores, _ = judge(answers(), answers(), config())
    assert set(scores) == {
        "quality", "win_rate", "judged_win_rate", "lc_win_rate", "length_tokens", "length_chars", "truncated",
    }  # fmt: skip
    assert all(score.se is not None for score in scores.values())


def test_answers_to_different_prompts_are_never_compared() -> None:
    with pytest.raises(AssertionError):
        judge(answers()[::-1], answers(), config())
    with pytest.raises(ValueError, match="zip"):
        judge(answers(10), answers(9), config())
