"""Figures of a search and of training, and Table 6: what their data say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_results import synthetic_rows

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.errors import MissingDependency
from aipo_lab.figures.catalogue import ROW_FIGURES
from aipo_lab.figures.search import get_hypervolume_data, get_importance_data
from aipo_lab.figures.style import Look
from aipo_lab.figures.training import get_training_data
from aipo_lab.report.table_data import get_table6_data
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import parse_rule

MICRO = BENCHMARK_METRICS["micro"]
RULE = parse_rule("corner")


def grid_rows() -> list[ResultRow]:
    """DPO over beta, which decides the length, and the learning rate, which decides the win rate."""
    known = [row for row in synthetic_rows() if row.trial == "dpo-00"]
    assert MICRO.length is not None
    rows = []
    for k, beta in enumerate((0.1, 0.3, 0.5, 1.0)):
        for j, rate in enumerate((1e-5, 3e-5, 1e-4)):
            settings = {"beta": str(beta), "train.learning_rate": str(rate)}
            values = {MICRO.length: 20.0 + 10 * k, MICRO.win_rate: 55.0 + 10 * j}
            for row in known:
                after = row.metrics | values if row.iteration else row.metrics
                rows.append(replace(row, trial=f"dpo-{k}{j}", hyperparameters=settings, metrics=after))
    return rows


def test_importance_finds_what_decides_each_outcome(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="pip install 'aipo-lab[search]'")
    data = get_importance_data(grid_rows(), MICRO, RULE)
    shares = data.set_index(["metric", "hyperparameter"])["importance"]
    assert shares[MICRO.length, "beta"] > 0.8
    assert shares[MICRO.win_rate, "train.learning_rate"] > 0.8
    assert data.groupby("metric")["importance"].sum().tolist() == pytest.approx([1.0, 1.0])
    assert set(data["trials"]) == {12}
    assert ROW_FIGURES["importance"].draw(data, tmp_path / "importance", Look("slide", formats=("png",)))


def test_importance_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingDependency, match=r"aipo-lab\[search\]"):
        get_importance_data(grid_rows(), MICRO, RULE)


def test_hypervolume_grows_with_every_trial_and_ends_at_that_of_all() -> None:
    data = get_hypervolume_data(synthetic_rows(), MICRO)
    for _, path in data.groupby("metric"):
        assert path["number"].tolist() == list(range(1, 21))
        assert path["hypervolume"].is_monotonic_increasing
        assert 0 < path["hypervolume"].iloc[-1] < 100


def test_training_curves_have_bands_around_their_mean() -> None:
    rows = synthetic_rows()
    points = [(t, step) for t in (0, 1) for step in range(20)]
    curve = [{"iteration": t, "step": step, "reward_chosen": 0.1 * step + 0.05 * (-1) ** step} for t, step in points]
    data = get_training_data(rows, dict.fromkeys({row.trial for row in rows}, curve), RULE, MICRO)
    assert set(data["metric"]) == {"reward_chosen"}
    assert set(data["objective"]) == {row.objective for row in rows}
    assert (data["low"] <= data["mean"]).all() and (data["mean"] <= data["high"]).all()
    assert (data["high"] - data["low"]).max() > 0.01
    assert data["step"].max() in (39, 40)


def test_table_6_has_a_line_an_objective_with_what_was_searched_and_picked() -> None:
    data = get_table6_data(synthetic_rows(), RULE, MICRO)
    assert data["objective"].tolist() == ["dpo", "dpo_nll", "simpo", "alpha_dpo", "aipo"]
    assert data["trials"].sum() == 20
    line = data.set_index("objective").loc["aipo"]
    assert "0.03" in line["searched"] and line["iteration"] >= 1
    assert 50 < line["win_rate"] <= 100 and line["length"] > 0
