"""Objectives keep their look, and labels name what varies."""

from __future__ import annotations

import itertools

from synthetic_results import swept_recipe_key, synthetic_rows

from aipo_lab.figures.palette import (
    KNOWN_STYLES,
    SETTING_COLOURS,
    luminance,
    objective_name,
    objective_styles,
    setting_label,
    varying_hyperparameters,
)


def test_the_papers_objectives_come_first_and_always_look_the_same():
    styles = objective_styles(["mine", "aipo", "dpo", "aipo"])
    assert list(styles) == ["dpo", "aipo", "mine"]
    assert styles["aipo"] == KNOWN_STYLES["aipo"] == objective_styles(["aipo"])["aipo"]
    assert [objective_name(name) for name in KNOWN_STYLES] == ["DPO", "DPO+NLL", "SimPO", "α-DPO", "AIPO"]
    assert styles["mine"].name == objective_name("mine") == "mine"


def test_any_number_of_objectives_that_a_sweep_has_looks_different():
    styles = list(objective_styles([*KNOWN_STYLES, *(f"objective-{k}" for k in range(72))]).values())
    assert len({(style.colour, style.marker, style.dash) for style in styles}) == 77
    assert len({(style.colour, style.marker) for style in styles[:22]}) == 22
    assert all(a.marker != b.marker for a, b in itertools.pairwise(styles))


def test_numbers_on_markers_can_be_read():
    for style in objective_styles([*KNOWN_STYLES, *map(str, range(9))]).values():
        light, dark = sorted((luminance(style.colour), 1.0 if style.ink == "white" else 0.0), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 3.0


def test_objectives_differ_in_colour_and_marker_and_stand_out_from_white_paper():
    for looks in (KNOWN_STYLES.values(),):
        assert len({style.colour for style in looks}) == len({style.marker for style in looks}) == 5
    for colour in [style.colour for style in KNOWN_STYLES.values()] + list(SETTING_COLOURS):
        assert 1.05 / (luminance(colour) + 0.05) > 2.0  # contrast to white


def test_labels_use_symbols_in_the_order_of_the_formula_and_full_names_for_recipe_keys():
    setting = {"lambda": "0.2", "rank.length_bias": "0.05", "alpha": "0.05", "beta": "0.1"}
    assert setting_label(setting) == "β=0.1 α=0.05 λ=0.2 rank.length_bias=0.05"
    assert setting_label(setting, ["alpha", "lambda"]) == "α=0.05 λ=0.2"
    assert setting_label({}) == ""


def test_what_varies_is_found_per_group_of_rows():
    rows = synthetic_rows(iterations=1)
    assert varying_hyperparameters(r for r in rows if r.objective == "aipo") == ["alpha", "lambda"]
    assert varying_hyperparameters(r for r in rows if r.objective == "dpo") == ["beta"]
    assert varying_hyperparameters(swept_recipe_key()) == ["rank.length_bias"]
