"""Best against worst: the official tie rules, the file format, and filters that count what they drop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import StageFailed
from aipo_lab.curation.candidates import candidates_of
from aipo_lab.curation.selection import SelectSettings, select
from aipo_lab.stages.pair import PairConfig, PairMaker, pair_row
from aipo_lab.stages.rank import competition_ranks


def ranked(
    scores: list[float], texts: list[str] | None = None, reasons: list[str] | None = None, identifier: str = "000001"
) -> dict[str, Any]:
    texts = texts or [f"text {i}" for i in range(len(scores))]
    reasons = reasons or ["stop"] * len(scores)
    return {
        "id": identifier,
        "prompt": "the prompt",
        "responses": [
            {"text": text, "tokens": 10 + i, "finish_reason": reason}
            for i, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        ],
        "scores": scores,
        "ranks": competition_ranks(scores),
    }


def best_against_worst(row: dict[str, Any]) -> dict[str, Any]:
    (pair,) = select(candidates_of(row), SelectSettings(), seed=0).pairs
    return pair_row(row, pair)


def chosen_and_rejected(row: dict[str, Any]) -> tuple[str, str]:
    made = best_against_worst(row)
    return made["chosen"][0]["content"], made["rejected"][0]["content"]


@pytest.mark.parametrize(
    ("scores", "best", "worst"),
    [
        ([1, 3, 2], 1, 0),
        ([3, 3, 1, 1], 0, 2),  # ties take the lowest index on both sides
        ([1, 3, 1, 3], 1, 0),
        ([0, 1], 1, 0),
    ],
)
def test_best_against_worst_takes_the_lowest_index_on_ties(scores: list[float], best: int, worst: int) -> None:
    assert chosen_and_rejected(ranked(scores)) == (f"text {best}", f"text {worst}")


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=8))
def test_the_pair_spans_the_scores(scores: list[int]) -> None:
    row = ranked([float(score) for score in scores])
    if len(set(scores)) == 1:
        assert select(candidates_of(row), SelectSettings(), seed=0) == ([], "all_tied")
        return
    made = best_against_worst(row)
    assert (made["chosen_score"], made["rejected_score"]) == (max(scores), min(scores))
    assert made["chosen"][0]["content"] == f"text {scores.index(max(scores))}"
    assert made["rejected"][0]["content"] == f"text {scores.index(min(scores))}"


def test_a_pair_is_in_trls_conversational_format() -> None:
    assert best_against_worst(ranked([0.5, 1.5], reasons=["length", "stop"])) == {
        "id": "000001",
        "prompt": [{"role": "user", "content": "the prompt"}],
        "chosen": [{"role": "assistant", "content": "text 1"}],
        "rejected": [{"role": "assistant", "content": "text 0"}],
        "chosen_score": 1.5,
        "chosen_win_rate": pytest.approx((1 / (1 + math.exp(-1)) + 0.5) / 2),
        "rejected_score": 0.5,
        "rejected_win_rate": pytest.approx((1 / (1 + math.exp(1)) + 0.5) / 2),
        "chosen_tokens": 11,
        "rejected_tokens": 10,
        "chosen_finish_reason": "stop",
        "rejected_finish_reason": "length",
    }


@pytest.fixture
def pair(run_stage_on: Callable[..., Any]) -> Callable[..., Any]:
    def run(rows: list[dict[str, Any]], **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return run_stage_on("pair", settings, {"ranking": {"ranking.jsonl": rows}}, "pairs.jsonl")

    return run


BAD_ROWS = {
    "all_tied": ranked([1, 1]),
    "same_text": ranked([1, 2], texts=["same", "same"]),
    "empty_response": ranked([1, 2], texts=[" \n", "something"]),
    "truncated": ranked([1, 2], reasons=["length", "stop"]),
    "url": ranked([1, 2], texts=["plain", "see https://example.org"]),
}


def test_each_filter_drops_and_counts_its_kind(pair: Callable[..., Any]) -> None:
    good = [ranked([1, 2], identifier="a"), ranked([2, 1], texts=["plain", "see http://example.org"], identifier="b")]
    rows, summary = pair([good[0], *BAD_ROWS.values(), good[1]])
    assert [row["id"] for row in rows] == ["a", "b"]  # an address in the rejected response is nobody's concern
    assert summary.pop("statistics")["pairs"] == 2
    assert summary == {"pairs": 2, "counts": {"kept": 2, **dict.fromkeys(BAD_ROWS, 1)}}


def test_the_longest_response_decides_what_is_too_long(pair: Callable[..., Any]) -> None:
    rows = [ranked([1, 2]), ranked([1, 2, 1.5])]
    assert pair(rows, max_response_tokens=11)[1]["counts"] == {"kept": 2}
    with pytest.raises(StageFailed, match=r"no pair was left: \{'too_long': 2\}"):
        pair(rows, max_response_tokens=10)


def test_filters_can_be_switched_off(pair: Callable[..., Any]) -> None:
    rows, summary = pair([BAD_ROWS["truncated"], BAD_ROWS["url"]], drop_truncated=False, drop_urls=False)
    assert len(rows) == 2
    assert summary["counts"] == {"kept": 2}


def test_no_pair_left_fails_with_the_counts_and_what_to_do(pair: Callable[..., Any]) -> None:
    with pytest.raises(StageFailed, match=r"all_tied.*are equal in score or text; raise respond.sampling.temperature"):
        pair([BAD_ROWS["all_tied"]])


@given(st.lists(st.sampled_from(["kept", *BAD_ROWS]), min_size=1, max_size=12))
def test_counts_sum_to_the_rows(kinds: list[str]) -> None:
    maker = PairMaker(PairConfig())
    made = [maker.of(BAD_ROWS.get(kind, ranked([1, 2]))) for kind in kinds]
    assert maker.counts == Counter(kinds)
    assert [len(pairs) for pairs in made] == [int(kind == "kept") for kind in kinds]
