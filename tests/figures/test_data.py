"""What the figures show, asserted on their data: no drawing here."""

from __future__ import annotations

import pytest
from synthetic_results import fail_trial, swept_recipe_key, synthetic_rows, with_judged_benchmarks

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.figures.iterations import get_iterations_data
from aipo_lab.figures.objectives import NAMED_SETTINGS, get_objectives_data
from aipo_lab.figures.pareto import get_pareto_data
from aipo_lab.figures.trajectories import benchmarks_in
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import parse_rule, select_best

MICRO = BENCHMARK_METRICS["micro"]
TOP_LEFT = parse_rule("top_left")
OBJECTIVES = ["dpo", "dpo_nll", "simpo", "alpha_dpo", "aipo"]


def test_iterations_has_all_four_metrics_all_trials_and_one_best_per_objective():
    rows = synthetic_rows()
    data = get_iterations_data(rows, MICRO, TOP_LEFT)
    names = ["judged_win_rate", "win_rate", "lc_win_rate", "length_tokens"]
    assert [panel.metric for panel in data.panels] == [f"micro/{name}" for name in names]
    assert list(data.legend.styles) == OBJECTIVES
    for panel in data.panels:
        assert len(panel.trajectories) == 20
        assert [t.objective for t in panel.trajectories if t.is_best] == OBJECTIVES
    first = data.panels[0].trajectories[0]
    row = next(r for r in rows if r.trial == first.trial and r.iteration == 2)
    assert first.points[2].x == 2
    assert first.points[2].y == row.metrics["micro/judged_win_rate"]
    assert first.points[2].se == row.metrics["micro/judged_win_rate_se"]


def test_the_starred_point_is_the_selected_one():
    rows = synthetic_rows()
    panel = get_pareto_data(rows, MICRO, TOP_LEFT).panels[0]
    selection = select_best(rows, TOP_LEFT, MICRO, "aipo")
    starred = next(t for t in panel.trajectories if t.is_best and t.objective == "aipo")
    assert (starred.trial, starred.best_iteration) == (selection.best.trial, selection.best.iteration)


def test_pareto_shows_judged_and_true_win_rate_against_length_with_one_base_model():
    data = get_pareto_data(synthetic_rows(), MICRO, TOP_LEFT)
    assert ["judge" in panel.y_label for panel in data.panels] == [True, False]
    assert "true quality" in data.panels[1].y_label
    for panel in data.panels:
        assert panel.base == [(pytest.approx(19.4), 50.0)]
        assert panel.front[0] == panel.base[0]
        assert panel.front == sorted(panel.front)
        assert [y for _, y in panel.front] == sorted(y for _, y in panel.front)
    # The judge rewards length, true quality does not: the two fronts do not end at the same length.
    assert data.panels[0].front[-1][0] > data.panels[1].front[-1][0]


def test_objectives_name_what_varies_in_labels_and_what_does_not_in_the_title():
    data = get_objectives_data(synthetic_rows(), MICRO, TOP_LEFT)
    assert [panel.title for panel in data.panels] == [
        "DPO", "DPO+NLL (β=0.1)", "SimPO", "α-DPO (β=0.1)", "AIPO (β=0.1)",
    ]  # fmt: skip
    assert [s.label for s in data.panels[4].settings][:2] == ["α=0.03 λ=0.2", "α=0.03 λ=0.5"]
    points = [p for panel in data.panels for s in panel.settings for p in s.trajectory.points]
    assert data.x_range[0] < min(p.x for p in points)
    assert data.x_range[1] > max(p.x for p in points)
    assert data.y_range[0] < min(p.y for p in points)


def test_a_swept_recipe_key_labels_the_lines_of_every_figure():
    rows = swept_recipe_key()
    labels = [f"rank.length_bias={value}" for value in ("0", "0.05", "0.1")]
    assert [s.label for s in get_objectives_data(rows, MICRO, TOP_LEFT).panels[0].settings] == labels
    for legend in (
        get_pareto_data(rows, MICRO, TOP_LEFT).legend,
        get_iterations_data(rows, MICRO, TOP_LEFT).legend,
    ):
        assert [style.name for style in legend.styles.values()] == labels


def test_a_failed_trial_shows_what_it_completed_and_no_more():
    rows = fail_trial(fail_trial(synthetic_rows(), "aipo-02", 2), "simpo-00", 0)
    trajectories = {t.trial: t for t in get_pareto_data(rows, MICRO, TOP_LEFT).panels[0].trajectories}
    assert [p.iteration for p in trajectories["aipo-02"].points] == [0, 1]
    assert "simpo-00" not in trajectories
    assert len(trajectories) == 19


def test_more_settings_than_can_be_told_apart_keep_the_best_named():
    metrics = [{MICRO.win_rate: 50.0 + k, MICRO.length: 30.0} for k in range(30)]
    rows = [ResultRow(f"t{k:02d}", "dpo", {"beta": str(k)}, 1, "complete", m) for k, m in enumerate(metrics)]
    settings = get_objectives_data(rows, MICRO, TOP_LEFT).panels[0].settings
    named = [s for s in settings if s.label is not None]
    assert len(settings) == 30
    assert len(named) == NAMED_SETTINGS - 1
    assert any(s.trajectory.is_best for s in named)


def test_benchmarks_without_length_have_no_pareto_but_iterations():
    rows = with_judged_benchmarks(synthetic_rows())
    assert benchmarks_in(rows) == ["micro", "arena_hard", "mt_bench"]
    metrics = BENCHMARK_METRICS["mt_bench"]
    assert get_pareto_data(rows, metrics, TOP_LEFT).panels == []
    assert get_objectives_data(rows, metrics, TOP_LEFT).panels == []
    assert [panel.metric for panel in get_iterations_data(rows, metrics, TOP_LEFT).panels] == ["mt_bench/score"]


def test_a_confidence_interval_gives_the_error_bar_where_there_is_no_standard_error():
    rows = with_judged_benchmarks(synthetic_rows())
    panel = get_iterations_data(rows, BENCHMARK_METRICS["arena_hard"], TOP_LEFT).panels[0]
    assert panel.trajectories[0].points[1].se == pytest.approx(6 / 3.92, rel=1e-3)


@pytest.mark.parametrize("rows", [[], fail_trial(synthetic_rows()[:4], "dpo-00", 0)])
def test_without_a_complete_point_there_is_nothing_to_show(rows):
    assert get_iterations_data(rows, MICRO, TOP_LEFT).panels == []
    assert get_pareto_data(rows, MICRO, TOP_LEFT).panels == []
    assert get_objectives_data(rows, MICRO, TOP_LEFT).panels == []
    assert benchmarks_in(rows) == []
