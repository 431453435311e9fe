"""What the figures show, asserted on their tables: no drawing here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_results import fail_trial, swept_recipe_key, synthetic_rows, with_judged_benchmarks

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.figures.amounts import get_amounts_data
from aipo_lab.figures.front import get_front_band, lettered
from aipo_lab.figures.iterations import get_iterations_data
from aipo_lab.figures.objectives import get_objectives_data, panel_title
from aipo_lab.figures.pareto import get_pareto_data
from aipo_lab.figures.scales import get_scales
from aipo_lab.figures.trajectories import axis_label, benchmarks_in, get_legend
from aipo_lab.figures.view import get_view
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_best

MICRO = BENCHMARK_METRICS["micro"]
TOP_LEFT = parse_rule("top_left")
OBJECTIVES = ["dpo", "dpo_nll", "simpo", "alpha_dpo", "aipo"]


def test_iterations_has_all_four_metrics_all_trials_and_one_best_per_objective():
    rows = synthetic_rows()
    data = get_iterations_data(rows, MICRO, TOP_LEFT)
    names = ["judged_win_rate", "win_rate", "lc_win_rate", "length_tokens"]
    assert list(data["y_metric"].unique()) == [f"micro/{name}" for name in names]
    assert list(get_legend(data).styles) == OBJECTIVES
    for _, panel in data.groupby("y_metric"):
        assert panel["trial"].nunique() == 20
        assert list(panel[panel["best"]]["objective"]) == OBJECTIVES
        assert list(panel[panel["best_trial"]].groupby("trial").size()) == [4] * 5
    one = data.iloc[2]
    row = next(r for r in rows if r.trial == one.trial and r.iteration == 2)
    assert (one.x, one.y) == (2, row.metrics["micro/judged_win_rate"])
    assert one.y_se == row.metrics["micro/judged_win_rate_se"]


def test_the_best_point_is_the_selected_one():
    rows = synthetic_rows()
    data = get_pareto_data(rows, MICRO, TOP_LEFT)
    selection = select_best(rows, TOP_LEFT, MICRO, "aipo")
    best = data[data["best"] & (data["objective"] == "aipo")].iloc[0]
    assert (best.trial, best.iteration) == (selection.best.trial, selection.best.iteration)


def test_pareto_shows_judged_and_true_win_rate_against_length_with_one_base_model():
    data = get_pareto_data(synthetic_rows(), MICRO, TOP_LEFT)
    assert [axis_label(metric) for metric in data["y_metric"].unique()] == [
        "Win rate by length-biased judge (%)", "Win rate by true quality (%)",
    ]  # fmt: skip
    ends = []
    for _, panel in data.groupby("y_metric", sort=False):
        assert panel[panel["iteration"] == 0]["x"].unique() == pytest.approx(19.4)
        front = panel[panel["on_front"]].sort_values("x")
        assert front.iloc[0]["iteration"] == 0 and front["y"].is_monotonic_increasing
        for one in front.itertuples():
            assert not ((panel["x"] < one.x) & (panel["y"] >= one.y)).any()
        ends.append(front["x"].max())
    # The judge rewards length, true quality does not: the two fronts do not end at the same length.
    assert ends[0] > ends[1]


def test_the_band_holds_the_front_and_grows_with_the_errors():
    data = get_pareto_data(synthetic_rows(), MICRO, TOP_LEFT)
    panel = data[data["y_metric"] == "micro/win_rate"]
    band = get_front_band(panel)
    height = panel[panel["on_front"]]["y"].max()
    assert band["low"].iloc[-1] < height < band["high"].iloc[-1]
    wide = get_front_band(panel.assign(y_se=3 * panel["y_se"]))
    assert (wide["high"] - wide["low"]).iloc[-1] > 2 * (band["high"] - band["low"]).iloc[-1]
    assert get_front_band(panel.assign(x_se=np.nan, y_se=np.nan)).empty


def test_letters_name_the_front_from_left_to_right_and_keep_apart():
    data = get_pareto_data(synthetic_rows(), MICRO, TOP_LEFT)
    panel = data[data["y_metric"] == "micro/judged_win_rate"]
    key = lettered(panel, get_view(panel).spans)
    assert [letter for letter, *_ in key] == list("abcdefghijkl"[: len(key)])
    assert [x for _, x, *_ in key] == sorted(x for _, x, *_ in key)
    assert len(key) < (panel["on_front"] & (panel["iteration"] > 0)).sum()  # some lie too close to have one
    assert all(" @" in name and name.startswith(("AIPO α=", "α-DPO α=", "DPO", "SimPO")) for *_, name in key)


def test_a_base_model_far_below_stands_at_the_edge_of_the_axes():
    data = get_pareto_data(synthetic_rows(), MICRO, TOP_LEFT)
    panel = data[data["y_metric"] == "micro/judged_win_rate"]
    view = get_view(panel)
    assert (view.far_x, view.far_y, view.first) == (False, True, 1)
    assert 50 < view.y_range[0] < panel[panel["iteration"] > 0]["y"].min()
    near = get_view(panel.assign(y=panel["y"].clip(lower=70) - 0.5 * (panel["iteration"] == 0)))
    assert not near.far and near.first == 0


def test_objectives_have_a_column_for_every_hyperparameter_and_scales_from_dark_to_light():
    data = get_objectives_data(synthetic_rows(), MICRO, TOP_LEFT)
    groups = dict(list(data.groupby("objective", sort=False)))
    assert [panel_title(panel, name) for name, panel in groups.items()] == [
        "DPO", "DPO+NLL (β=0.1)", "SimPO", "α-DPO (β=0.1)", "AIPO (β=0.1)",
    ]  # fmt: skip
    coloured, dashed = get_scales(groups["aipo"])
    assert (coloured.name, coloured.values, dashed.name, dashed.values) == (
        "alpha", ("0.03", "0.05", "0.07"), "lambda", ("0.2", "0.5"),
    )  # fmt: skip
    lightness = [sum(coloured.colour(value)[:3]) for value in coloured.values]
    assert lightness == sorted(lightness) and len({str(dashed.dash(value)) for value in dashed.values}) == 2
    coloured, dashed = get_scales(groups["dpo"])
    assert [coloured.label(value) for value in coloured.values] == ["β=0.1", "β=0.5", "β=1.0"] and dashed is None


def test_many_numbers_are_a_colour_bar_logarithmic_where_they_span_much():
    rows = [
        ResultRow(f"t{k:02d}", "dpo", {"beta": f"{0.01 * 1.4**k:.4f}"}, 1, "complete",
                  {MICRO.win_rate: 50.0 + k, MICRO.length: 30.0 + k})
        for k in range(15)
    ]  # fmt: skip
    coloured, _ = get_scales(get_objectives_data(rows, MICRO, TOP_LEFT))
    assert coloured.continuous and coloured.logarithmic and list(coloured.numbers) == sorted(coloured.numbers)


def test_a_swept_recipe_key_names_the_lines_by_its_last_part():
    rows = swept_recipe_key()
    names = [f"length_bias={value}" for value in ("0", "0.05", "0.1")]
    for data in (get_pareto_data(rows, MICRO, TOP_LEFT), get_iterations_data(rows, MICRO, TOP_LEFT)):
        assert [style.name for style in get_legend(data).styles.values()] == names
    coloured, _ = get_scales(get_objectives_data(rows, MICRO, TOP_LEFT))
    assert [coloured.label(value) for value in coloured.values] == names


def test_a_failed_trial_shows_what_it_completed_and_no_more():
    rows = fail_trial(fail_trial(synthetic_rows(), "aipo-02", 2), "simpo-00", 0)
    data = get_pareto_data(rows, MICRO, TOP_LEFT)
    panel = data[data["y_metric"] == MICRO.win_rate]
    assert list(panel[panel["trial"] == "aipo-02"]["iteration"]) == [0, 1]
    assert "simpo-00" not in set(panel["trial"])
    assert panel["trial"].nunique() == 19


def test_seeds_are_one_path_their_mean_with_the_variance_between_them():
    rows = [
        ResultRow(f"dpo-{seed}", "dpo", {"beta": "0.1", "seed": str(seed)}, t, "complete",
                  {MICRO.win_rate: 50.0 + 10 * t + seed * t, f"{MICRO.win_rate}_se": 0.5, MICRO.length: 20.0 + t})
        for seed in range(3) for t in range(2)
    ]  # fmt: skip
    data = get_pareto_data(rows, MICRO, TOP_LEFT)
    assert list(data["trial"]) == ["dpo-0", "dpo-0"] and list(data["y"]) == [50.0, 61.0]
    assert data["y_se"].iloc[1] > 4.3 * 1 / 3**0.5 / 1.96 > data["y_se"].iloc[0]
    assert "seed" not in data.columns


def test_benchmarks_without_length_have_no_pareto_but_iterations():
    rows = with_judged_benchmarks(synthetic_rows())
    assert benchmarks_in(rows) == ["micro", "arena_hard", "mt_bench"]
    metrics = BENCHMARK_METRICS["mt_bench"]
    assert get_pareto_data(rows, metrics, TOP_LEFT).empty
    assert get_objectives_data(rows, metrics, TOP_LEFT).empty
    assert list(get_iterations_data(rows, metrics, TOP_LEFT)["y_metric"].unique()) == ["mt_bench/score"]


def test_a_confidence_interval_gives_the_error_where_there_is_no_standard_error():
    rows = with_judged_benchmarks(synthetic_rows())
    data = get_iterations_data(rows, BENCHMARK_METRICS["arena_hard"], TOP_LEFT)
    assert data["y_se"].iloc[1] == pytest.approx(6 / 3.92, rel=1e-3)


def test_figure_1_compares_iterations_by_the_prompts_trained_on():
    rows = [
        replace(
            row, trial=f"dpo-{T}", hyperparameters={"beta": "0.1", "iterations": str(T), "instruct.n_prompts": str(P)}
        )
        for T, P in ((1, 60), (3, 20))
        for row in synthetic_rows(T)
        if row.trial == "dpo-00"
    ]
    data = get_amounts_data(rows, MICRO, TOP_LEFT)
    last = data[data["iteration"] == data["T"]]
    assert set(last["prompts"]) == {60} and set(data["T"]) == {1, 3}
    assert get_amounts_data(synthetic_rows(), MICRO, TOP_LEFT).empty


@pytest.mark.parametrize("rows", [[], fail_trial(synthetic_rows()[:4], "dpo-00", 0)])
def test_without_a_complete_point_there_is_nothing_to_show(rows):
    assert get_iterations_data(rows, MICRO, TOP_LEFT).empty
    assert get_pareto_data(rows, MICRO, TOP_LEFT).empty
    assert get_objectives_data(rows, MICRO, TOP_LEFT).empty
    assert benchmarks_in(rows) == []
