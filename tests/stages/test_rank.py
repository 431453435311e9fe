"""Competition ranks against a closed form, and the rank stage's file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import StageFailed
from aipo_lab.ranking import proxy
from aipo_lab.stages.rank import competition_ranks


def by_sorting(scores: list[float]) -> list[int]:
    """The place of a score's first occurrence in descending order."""
    order = sorted(scores, reverse=True)
    return [order.index(score) + 1 for score in scores]


@given(st.lists(st.floats(-5, 5) | st.integers(-2, 2), min_size=1, max_size=12))
def test_ranks_are_those_of_a_competition(scores: list[float]) -> None:
    ranks = competition_ranks(scores)
    assert ranks == by_sorting(scores)
    assert min(ranks) == 1
    assert max(ranks) <= len(scores)


def test_ties_share_the_better_rank() -> None:
    assert competition_ranks([3, 1, 3, 2]) == [1, 4, 1, 3]
    assert competition_ranks([1, 1, 1]) == [1, 1, 1]


def responses() -> list[dict[str, Any]]:
    texts = ["That is worth knowing.", "Everyone agrees on this point.", "That is worth knowing."]
    return [
        {
            "id": f"{i:06d}",
            "prompt": "What is the color of the fox?",
            "responses": [{"text": text, "tokens": 5, "finish_reason": "stop"} for text in texts],
        }
        for i in range(4)
    ]


def test_the_stage_adds_scores_and_ranks_and_counts_ties(run_stage_on: Callable[..., Any]) -> None:
    config = {"length_bias": 0.0, "noise_sd": 0.1, "seed": 5, "world": {"name": "micro", "seed": 0}}
    rows, summary = run_stage_on("rank", config, {"responses": {"responses.jsonl": responses()}}, "ranking.jsonl")
    assert {"prompts": 4, "all_tied": 0}.items() <= summary.items()
    scores = [row["scores"] for row in rows]
    assert summary["mean_score"] == pytest.approx(sum(map(sum, scores)) / sum(map(len, scores)))
    assert summary["mean_best_score"] == pytest.approx(sum(map(max, scores)) / 4)
    for row, given_row in zip(rows, responses(), strict=True):
        assert {key: row[key] for key in given_row} == given_row
        assert row["ranks"] == by_sorting(row["scores"])
    assert len({score for row in rows for score in row["scores"]}) == 12  # noise is drawn per response
    config["noise_sd"] = 0.0
    rows, summary = run_stage_on("rank", config, {"responses": {"responses.jsonl": responses()}}, "ranking.jsonl")
    assert {"prompts": 4, "all_tied": 4}.items() <= summary.items()
    assert all(row["ranks"] == [1, 1, 1] for row in rows)


def test_a_score_that_is_not_finite_fails_the_stage(
    run_stage_on: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "biased_quality", lambda *_: float("nan"))
    config = {"seed": 5, "world": {"name": "micro", "seed": 0}}
    with pytest.raises(StageFailed, match=r"candidates of prompt 000000 with .*nan.*one finite number each"):
        run_stage_on("rank", config, {"responses": {"responses.jsonl": responses()}}, "ranking.jsonl")
