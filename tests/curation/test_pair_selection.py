"""Every rule: which pairs it takes, that chosen beats rejected by score and win rate, and prompts stand alone."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranked_rows import ranked

from aipo_lab.core.errors import UserError
from aipo_lab.curation.candidates import candidates_of, without_duplicates
from aipo_lab.curation.selection import Rule, Selected, SelectSettings, select
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.stages.pair import PairConfig, PairMaker

RULES = get_args(Rule)
ROWS = st.integers(2, 8).flatmap(
    lambda n: st.builds(
        ranked,
        st.lists(st.integers(-3, 3).map(float), min_size=n, max_size=n),
        st.lists(st.integers(1, 40), min_size=n, max_size=n),
    )
)


def selected(row: dict[str, Any], seed: int = 0, **settings: Any) -> Selected:
    made = SelectSettings(**settings)
    return select(without_duplicates(candidates_of(row, made.length_penalty), made.duplicates), made, seed)


def places(row: dict[str, Any], **settings: Any) -> list[tuple[int, int]]:
    return [(pair.chosen.index, pair.rejected.index) for pair in selected(row, **settings).pairs]


@pytest.mark.parametrize("rule", RULES)
@given(row=ROWS, penalty=st.sampled_from([0.0, 0.1]), k=st.integers(1, 4), seed=st.integers(0, 9))
def test_chosen_beats_rejected_by_score_and_by_win_rate(
    rule: Rule, row: dict[str, Any], penalty: float, k: int, seed: int
) -> None:
    pairs, reason = selected(row, seed, rule=rule, length_penalty=penalty, pairs_per_prompt=k)
    assert (reason is None) == (len(pairs) > 0)
    assert len(pairs) <= k
    assert len({(pair.chosen.index, pair.rejected.index) for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.chosen.score > pair.rejected.score
        assert pair.chosen.win_rate > pair.rejected.win_rate


@pytest.mark.parametrize("rule", RULES)
@given(row=ROWS, margin=st.floats(0, 4), ratio=st.floats(1, 5))
def test_conditions_hold_of_every_pair_and_are_named_where_nothing_meets_them(
    rule: Rule, row: dict[str, Any], margin: float, ratio: float
) -> None:
    pairs, reason = selected(row, rule=rule, min_margin=margin, max_length_ratio=ratio, pairs_per_prompt=64)
    for pair in pairs:
        assert pair.margin >= margin - 1e-9
        assert pair.length_ratio <= ratio
    assert reason in ({None} if pairs else {"all_tied", "margin_too_small", "length_ratio", "outside_tiers"})


def test_the_last_bits_of_a_subtraction_decide_nothing() -> None:
    assert places(ranked([0.3, 0.2]), min_margin=0.1) == [(0, 1)]  # 0.3 - 0.2 is less than 0.1 by 3e-17
    assert 0.3 - 0.1 * 1 != 0.8 - 0.1 * 6
    assert selected(ranked([0.3, 0.8], tokens=[1, 6]), length_penalty=0.1).reason == "all_tied"


def test_reasons_tell_which_condition_left_nothing() -> None:
    row = ranked([1, 2], tokens=[10, 30])
    assert selected(ranked([2, 2])).reason == "all_tied"
    assert selected(ranked([2])).reason == "all_tied"
    assert selected(row, min_margin=1.5).reason == "margin_too_small"
    assert selected(row, max_length_ratio=2.9).reason == "length_ratio"
    assert places(row, min_margin=1.0, max_length_ratio=3.0) == [(1, 0)]


ROW = ranked([3, 1, 4, 0, 2], tokens=[20, 50, 30, 90, 28])


@pytest.mark.parametrize(
    ("rule", "first_three"),
    [
        ("best_worst", [(2, 3), (0, 1)]),  # each candidate once: the middle one has nobody left
        ("best_others", [(2, 3), (2, 1), (2, 4)]),
        ("widest", [(2, 3), (2, 1), (0, 3)]),
        ("length_matched", [(2, 4), (2, 0), (2, 1)]),
    ],
)
def test_the_rules_take_these_pairs_first(rule: Rule, first_three: list[tuple[int, int]]) -> None:
    assert places(ROW, rule=rule, pairs_per_prompt=3) == first_three
    assert places(ROW, rule=rule) == first_three[:1]


def test_a_penalty_can_turn_the_order_and_is_in_scores_and_win_rates() -> None:
    row = ranked([1.0, 1.5], tokens=[10, 40])
    assert places(row) == [(1, 0)]
    (pair,) = selected(row, length_penalty=0.05).pairs
    assert (pair.chosen.index, pair.rejected.index) == (0, 1)
    assert (pair.chosen.score, pair.rejected.score) == pytest.approx((0.5, -0.5))
    assert pair.chosen.win_rate > 0.5 > pair.rejected.win_rate


def test_a_length_ratio_looks_for_another_pair_instead_of_dropping_the_prompt() -> None:
    assert places(ROW, max_length_ratio=2.0) == [(2, 1)]
    assert places(ROW, rule="length_matched", max_length_ratio=1.1) == [(2, 4)]


@given(row=ROWS, k=st.integers(1, 4))
def test_max_random_keeps_the_best_and_random_any(row: dict[str, Any], k: int) -> None:
    best = row["scores"].index(max(row["scores"]))
    for seed in range(5):
        assert all(w == best for w, _ in places(row, seed=seed, rule="max_random", pairs_per_prompt=k))


def test_random_rules_draw_every_pair_about_equally_often_and_by_the_seed_alone() -> None:
    drawn = [places(ranked([3, 2, 1]), seed=seed, rule="random")[0] for seed in range(900)]
    assert {pair: 200 < drawn.count(pair) < 400 for pair in ((0, 1), (0, 2), (1, 2))} == dict.fromkeys(
        ((0, 1), (0, 2), (1, 2)), True
    )
    assert drawn == [places(ranked([3, 2, 1]), seed=seed, rule="random")[0] for seed in range(900)]


@pytest.mark.parametrize("rule", ["max_random", "random"])
def test_what_a_prompt_draws_does_not_depend_on_the_others(rule: str) -> None:
    rows = [ranked([5, 4, 3, 2, 1, 0], identifier=f"{i:03d}") for i in range(60)]
    config = PairConfig.model_validate({"seed": 7, "select": {"rule": rule}})

    def drawn(some: list[dict[str, Any]], config: PairConfig = config) -> dict[str, Any]:
        maker = PairMaker(config)
        return {pair["id"]: (pair["chosen"], pair["rejected"]) for row in some for pair in maker.of(row)}

    everything = drawn(rows)
    assert drawn(rows[::-3]) == {row["id"]: everything[row["id"]] for row in rows[::-3]}
    assert len({str(one) for one in everything.values()}) > 1  # not the same draw for all
    assert drawn(rows, config.model_copy(update={"seed": 8})) != everything


def test_duplicates_are_taken_once_and_still_count_as_samples_of_the_policy() -> None:
    row = ranked([3, 2, 1, 0], texts=["Yes.", "yes.", "Yes.", "No"])
    assert places(row, rule="best_others", pairs_per_prompt=4) == [(0, 3), (0, 2), (0, 1)]
    assert places(row, rule="best_others", pairs_per_prompt=4, duplicates="exact") == [(0, 3), (0, 1)]
    assert places(row, rule="best_others", pairs_per_prompt=4, duplicates="normalised") == [(0, 3)]
    kept, single = (selected(row, duplicates=how).pairs[0] for how in ("keep", "normalised"))
    assert kept.chosen.win_rate == single.chosen.win_rate


@pytest.mark.parametrize("texts", [["a b", "A  b\n"], ["\ufb01ne", "Fine"], ["stra\u00dfe", "STRASSE"]])
def test_normalised_texts_are_equal_where_they_look_alike(texts: list[str]) -> None:
    assert len(without_duplicates(candidates_of(ranked([1, 2], texts=texts)), "normalised")) == 1
    assert len(without_duplicates(candidates_of(ranked([1, 2], texts=texts)), "exact")) == 2


def test_several_pairs_of_a_prompt_have_ids_of_their_own() -> None:
    maker = PairMaker(PairConfig.model_validate({"select": {"rule": "widest", "pairs_per_prompt": 3}}))
    pairs = [pair for row in (ROW, ROW | {"id": "b"}) for pair in maker.of(row)]
    assert [pair["id"] for pair in pairs] == ["000001/1", "000001/2", "000001/3", "b/1", "b/2", "b/3"]
    assert maker.counts == {"kept": 6}
    assert all(len(pair["chosen_token_ids"]) == pair["chosen_tokens"] for pair in pairs)


def test_a_recipe_refuses_what_selection_does_not_know() -> None:
    with pytest.raises(UserError) as caught:
        build_recipe(
            profile_values("micro"),
            [
                ("pair.select.rule", "best"),
                ("pair.select.max_length_ratio", 0.5),
                ("pair.select.min_margin", -1),
                ("pair.select.lenght_penalty", 1),
            ],
        )
    named = ("select.rule", "select.max_length_ratio", "select.min_margin", "'lenght_penalty'")
    assert len(caught.value.problems) == len(named)
    assert all(any(name in problem for problem in caught.value.problems) for name in named)


def test_quality_tiers_take_the_shortest_of_the_best_and_the_longest_of_the_worst() -> None:
    row = ranked([5.0, 4.5, 4.0, 1.0, 0.5, 0.0], [30, 20, 10, 40, 25, 15])
    assert places(row, rule="quality_tiers", tier=0.0) == [(0, 5)]
    assert places(row, rule="quality_tiers", tier=0.1) == [(1, 4)]
    assert places(row, rule="quality_tiers", tier=0.2) == [(2, 3)]
    assert places(row, rule="quality_tiers", tier=0.2, pairs_per_prompt=9) == [(2, 3), (1, 4), (0, 5)]
    assert places(row, rule="quality_tiers", tier=1.0) == [(2, 3)]
    assert places(ranked([2.0, 2.0, 0.0], [9, 4, 5]), rule="quality_tiers", tier=0.0) == [(1, 2)]
    assert selected(row, rule="quality_tiers", tier=0.0, max_length_ratio=1.3).reason == "outside_tiers"
