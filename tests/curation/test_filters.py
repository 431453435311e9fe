"""Filters drop and count what they say, in the stated order; off, they change nothing, not even a key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranked_rows import ranked

from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.curation.filters import FilterSettings
from aipo_lab.pipeline.recipe import build_recipe, profile_names, profile_values
from aipo_lab.stages.pair import PairConfig, PairMaker, PairSettings
from aipo_lab.worlds.micro.tokenizer import build_tokenizer

GOOD = ("A fine answer.", "Another one.")
BAD = {
    "template_leakage": "Yes.<|im_end|>",
    "refusal": "I cannot help with that.",
    "repetition": "go on and on " * 20,
    "wrong_script": "Нет, не так.",
    "unfinished": "First of all,",
}
EVERY_RULE = {
    "drop_template_leakage": True,
    "drop_refusals": True,
    "max_repetition": 0.5,
    "scripts": ["LATIN"],
    "drop_unfinished": True,
}
TOKENIZER = build_tokenizer()


def maker(pair: dict[str, Any] | None = None, **filters: Any) -> PairMaker:
    return PairMaker(PairConfig.model_validate((pair or {}) | {"filters": filters}), TOKENIZER)


def reason(row: dict[str, Any], pair: dict[str, Any] | None = None, **filters: Any) -> str:
    made = maker(pair, **filters)
    made.of(row)
    ((found, count),) = made.counts.items()
    assert count == 1
    return found


@pytest.mark.parametrize("kind", BAD)
def test_every_rule_drops_its_kind_in_either_response(kind: str) -> None:
    for texts in ([BAD[kind], GOOD[0]], [GOOD[0], BAD[kind]]):
        row = ranked([1, 2], texts=texts)
        assert reason(row, **EVERY_RULE) == kind
        assert reason(row) == "kept"
        assert reason(ranked([1, 2], texts=list(GOOD)), **EVERY_RULE) == "kept"


@pytest.mark.parametrize("kind", BAD)
def test_rules_may_judge_the_chosen_response_alone(kind: str) -> None:
    as_rejected, as_chosen = ([BAD[kind], GOOD[0]], [GOOD[0], BAD[kind]])
    settings = EVERY_RULE | {"applies_to": "chosen"}
    assert reason(ranked([1, 2], texts=as_rejected), **settings) == "kept"
    assert reason(ranked([1, 2], texts=as_chosen), **settings) == kind


def test_rules_may_take_candidates_out_before_selection() -> None:
    made = maker(None, **EVERY_RULE, applies_to="candidates")
    texts = [BAD["refusal"], GOOD[0], BAD["repetition"], GOOD[1], BAD["refusal"]]
    (pair,) = made.of(ranked([9, 2, 0, 3, 1], texts=texts))
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (GOOD[1], GOOD[0])
    assert made.counts == {"kept": 1}
    assert made.removed == {"refusal": 2, "repetition": 1}
    assert made.of(ranked([1, 2], texts=[GOOD[0], BAD["refusal"]])) == []
    assert made.counts == {"kept": 1, "too_few_candidates": 1}
    assert pair["chosen_win_rate"] < 0.9  # among all five, of which one was better


def test_copies_alone_are_the_same_text() -> None:
    row = ranked([1, 2], texts=["Yes", "yes "])
    assert reason(row, {"select": {"duplicates": "normalised"}}) == "same_text"
    assert reason(row, {"select": {"duplicates": "exact"}}) == "kept"


# the official ones, in the official order


def official(**changes: Any) -> dict[str, Any]:
    row = ranked([1, 2], prompt="List three fruits and three colors please .", texts=list(GOOD))
    return row | {"prompt_token_ids": [1] * 512} | changes


def with_tokens(chosen: int, finish_reason: str = "stop", texts: tuple[str, str] = GOOD) -> dict[str, Any]:
    row = ranked([1, 2], tokens=[5, chosen], texts=list(texts), reasons=["stop", finish_reason])
    return official(responses=row["responses"])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (official(), "kept"),
        (official(prompt="a b"), "prompt_length"),  # 2 tokens; 3 are enough
        (official(prompt="a b c"), "kept"),
        (official(prompt="a " * 511 + "a"), "kept"),
        (official(prompt="a " * 512 + "a"), "prompt_length"),
        (official(prompt="a", scores=[1, 1], ranks=[1, 1]), "prompt_length"),  # nothing is generated for it
        (official(prompt_token_ids=[1] * 513, scores=[1, 1], ranks=[1, 1]), "all_tied"),  # a pair is made first
        (official(prompt_token_ids=[1] * 513), "prompt_too_long"),
        (with_tokens(2017), "kept"),  # 2016 and the end token
        (with_tokens(2018), "too_long"),
        (with_tokens(2016, "length"), "truncated"),
        (with_tokens(2017, "length"), "too_long"),
        (with_tokens(2018, texts=("x", "see http://x.org")), "too_long"),
        (with_tokens(20, texts=("x", "see http://x.org")), "url"),
        (with_tokens(20, texts=("see https://x.org", "x")), "kept"),
    ],
)
def test_the_official_filters_at_their_limits(row: dict[str, Any], expected: str) -> None:
    assert len(TOKENIZER("a b c", add_special_tokens=False)["input_ids"]) == 3
    assert reason(row, {"drop_urls": False, "max_response_tokens": 9999}, official=True) == expected


def test_what_the_official_filters_drop_is_kept_without_them() -> None:
    for row in (official(prompt="a"), official(prompt_token_ids=[1] * 900), with_tokens(2040)):
        assert reason(row) == "kept"


@given(st.lists(st.sampled_from(["kept", *BAD]), min_size=1, max_size=8))
def test_counts_sum_to_the_rows(kinds: list[str]) -> None:
    made = maker(None, **EVERY_RULE)
    for kind in kinds:
        made.of(ranked([1, 2], texts=[GOOD[0], BAD.get(kind, GOOD[1])]))
    assert dict(made.counts) == {kind: kinds.count(kind) for kind in set(kinds)}


# in recipes and keys


def test_settings_at_their_defaults_are_in_no_key() -> None:
    old = {"max_response_tokens": 2048, "drop_truncated": True, "drop_urls": True}
    assert PairSettings().key_values() == old
    spelled_out = {"select": {"rule": "best_worst", "min_margin": 0}, "filters": {"official": False, "scripts": []}}
    assert PairSettings.model_validate(spelled_out).key_values() == old
    changed = PairSettings.model_validate({"select": {"rule": "random"}, "filters": {"max_repetition": 0.5}})
    assert changed.key_values() == old | {"select": {"rule": "random"}, "filters": {"max_repetition": 0.5}}
    for name in profile_names():
        assert build_recipe(profile_values(name)).pair.key_values().keys() == old.keys()


def test_only_filters_that_read_tokens_ask_for_the_tokenizer() -> None:
    assert not FilterSettings(drop_refusals=True, max_repetition=0.5, scripts=["LATIN"]).needs_tokenizer
    assert FilterSettings(official=True).needs_tokenizer
    assert FilterSettings(drop_template_leakage=True).needs_tokenizer


def test_a_recipe_refuses_scripts_and_phrases_that_make_no_sense() -> None:
    overrides = [("pair.filters.scripts", ["LATIN", "LATAN"]), ("pair.filters.refusal_phrases", [" "])]
    with pytest.raises(UserError) as caught:
        build_recipe(profile_values("micro"), overrides)
    assert "unknown script 'LATAN'; did you mean 'LATIN'" in str(caught.value)
    assert "an empty phrase begins every response" in str(caught.value)


def test_filters_that_leave_nothing_fail_with_their_counts(run_stage_on: Any) -> None:
    rows = [ranked([1, 2], texts=[GOOD[0], BAD["refusal"]])]
    settings = {"filters": {"drop_refusals": True}}
    with pytest.raises(StageFailed, match=r"no pair was left: \{'refusal': 1\}; loosen the `pair` section"):
        run_stage_on("pair", settings, {"ranking": {"ranking.jsonl": rows}}, "pairs.jsonl")
