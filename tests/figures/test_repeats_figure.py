"""The figure and the table of repeated configurations: what is in them, and what a sweep without seeds gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.figures.repeats import draw_repeats, get_repeats_data
from aipo_lab.report.tables import repeats_table
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_per_objective

METRICS = BENCHMARK_METRICS["micro"]
METHODS = {"aipo": (30.0, 80.0), "sdpo": (25.0, 60.0), "sppo": (40.0, 70.0)}


def rows(seeds: int = 3) -> list[ResultRow]:
    """Three methods, two of one objective; after the last iteration sppo is longer and worse than aipo."""
    made = []
    for method, (length, win) in METHODS.items():
        for seed in range(seeds):
            for t in (0, 1, 2):
                share = t / 2
                metrics = {"micro/length_tokens": 20 + share * (length - 20) + seed * share}
                for name in ("judged_win_rate", "win_rate", "lc_win_rate"):
                    metrics |= {f"micro/{name}": 50 + share * (win - 50) + seed * share, f"micro/{name}_se": 1.0}
                metrics |= {"micro/quality": 0.5, "micro/length_tokens_se": 0.5}
                objective = {"aipo": "aipo", "sdpo": "dpo", "sppo": "sppo"}[method]
                settings = {"method": method, "beta": "0.1", "seed": str(seed)}
                made.append(ResultRow(f"{method}-{seed}", objective, settings, t, "complete", metrics))
    return made


def test_every_method_is_a_point_with_intervals_and_a_path_that_leads_there() -> None:
    data = get_repeats_data(rows(), METRICS)
    assert list(data["y_metric"].unique()) == [METRICS.win_rate, METRICS.true_win_rate]
    last = data[data["last"] & (data["y_metric"] == METRICS.win_rate)].set_index("label")
    assert list(last.index) == ["AIPO", "sdpo", "sppo"]
    aipo = last.loc["AIPO"]
    assert (aipo.iteration, aipo.x, aipo.y, aipo.seeds) == (2, 31.0, 81.0, 3)
    assert aipo.y_half > 4.3027 * 1 / 3**0.5
    assert dict(last["on_front"]) == {"AIPO": True, "sdpo": True, "sppo": False}
    assert last["key"].nunique() == 3 and len(data) == 2 * 3 * 3


def test_settings_tell_configurations_of_one_objective_apart() -> None:
    made = [
        ResultRow(f"{beta}{seed}", "dpo", {"beta": beta, "seed": str(seed)}, t, "complete",
                  {"micro/length_tokens": 20.0 + t, "micro/judged_win_rate": 50.0 + t})
        for beta in ("0.1", "0.5") for seed in (0, 1) for t in (0, 1)
    ]  # fmt: skip
    data = get_repeats_data(made, METRICS)
    assert list(data["label"].unique()) == ["DPO β=0.1", "DPO β=0.5"]
    assert data["key"].nunique() == 2


def test_the_table_has_a_line_for_every_configuration() -> None:
    table = repeats_table(rows(), METRICS)
    assert [line[0].text for line in table.rows] == ["AIPO", "sdpo", "sppo"]
    assert table.columns[:3] == ["configuration", "iteration", "seeds"]
    first = [cell.text for cell in table.rows[0]]
    assert first[1:3] == ["2", "3"] and first[3].startswith("81.0 ± ") and first[-1] == "yes"
    assert repeats_table(rows(seeds=1), METRICS).rows == []


def test_one_seed_draws_nothing(tmp_path: Path) -> None:
    data = get_repeats_data(rows(seeds=1), METRICS)
    assert data.empty
    assert draw_repeats(data, tmp_path / "repeats") == []


@pytest.mark.parametrize("n_panels", [1, 2])
def test_it_is_drawn_as_png_and_pdf(n_panels: int, tmp_path: Path) -> None:
    data = get_repeats_data(rows(), METRICS)
    shown = data[data["y_metric"].isin(data["y_metric"].unique()[:n_panels])]
    paths = draw_repeats(shown, tmp_path / "repeats")
    assert [path.suffix for path in paths] == [".png", ".pdf"] and all(path.stat().st_size > 1000 for path in paths)


def test_what_is_selected_is_selected_per_method() -> None:
    """Two methods of one objective compete as two."""
    chosen = select_per_objective(rows(), parse_rule("max:judged_win_rate"), METRICS)
    assert list(chosen) == ["aipo", "sdpo", "sppo"]
