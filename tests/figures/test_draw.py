"""Drawing: the files that come out, their resolution and size, and that no text leaves the page."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from synthetic_results import fail_trial, swept_recipe_key, synthetic_rows, with_judged_benchmarks

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.figures.catalogue import ROW_FIGURES
from aipo_lab.figures.draw import draw_figures, figure_caption
from aipo_lab.figures.style import (
    COLUMN_WIDTH_IN,
    FULL_WIDTH_IN,
    SMALLEST_PT,
    Look,
    drawing,
    new_figure,
    rate_range,
    scaled,
)
from aipo_lab.results.rules import parse_rule

RULE = parse_rule("top_left")
MICRO = BENCHMARK_METRICS["micro"]
SET = ("pareto", "iterations", "objectives")


def _png_size(path):
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


@pytest.fixture(scope="module")
def several_benchmarks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several") / "figures"
    return draw_figures(with_judged_benchmarks(synthetic_rows()), RULE, folder)


def test_every_benchmark_gets_its_figures_as_png_and_pdf(several_benchmarks):
    figures = several_benchmarks
    expected = [f"{f}_{b}" for b in ("micro", "arena_hard") for f in SET] + ["iterations_mt_bench"]
    assert list(figures) == expected
    for name, path in figures.items():
        assert (path.parent.name, path.name) == ("figures", f"{name}.png")
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert b"/Type3" not in path.with_suffix(".pdf").read_bytes()
        assert figure_caption(name).startswith(name.split("_", 1)[1])
    assert _png_size(figures["pareto_micro"])[0] == FULL_WIDTH_IN * 300
    assert _png_size(figures["pareto_arena_hard"])[0] == round(COLUMN_WIDTH_IN * 300)


@pytest.mark.parametrize(
    "rows",
    [
        fail_trial(fail_trial(synthetic_rows(), "aipo-02", 2), "simpo-00", 0),
        [row for row in synthetic_rows() if row.trial == "aipo-00" and row.iteration < 2],
        [row for row in synthetic_rows() if row.trial == "aipo-00" and row.iteration == 1],
        [row for row in synthetic_rows() if row.objective == "dpo" and row.iteration == 0],
        swept_recipe_key(),
    ],
    ids=["failed", "one-trial", "one-point", "base-only", "recipe-key"],
)
def test_unusual_sweeps_are_drawn_without_a_warning(rows, tmp_path, recwarn):
    figures = draw_figures(rows, RULE, tmp_path)
    assert list(figures) == [f"{figure}_micro" for figure in SET]
    assert [str(warning.message) for warning in recwarn] == []


def test_nothing_complete_draws_nothing(tmp_path):
    assert draw_figures([], RULE, tmp_path / "figures") == {}
    assert not (tmp_path / "figures").exists()


def test_what_is_drawn_already_is_not_drawn_again_unless_results_or_files_changed(tmp_path):
    rows = [row for row in synthetic_rows() if row.trial == "dpo-00"]
    first = draw_figures(rows[:2], RULE, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.values()}
    assert draw_figures(rows[:2], RULE, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in first.values()} == before
    draw_figures(rows, RULE, tmp_path)
    after = {path: path.stat().st_mtime_ns for path in first.values()}
    assert all(after[path] > before[path] for path in before)
    first["pareto_micro"].unlink()
    assert draw_figures(rows, RULE, tmp_path)["pareto_micro"].is_file()


def test_equal_results_give_equal_files(tmp_path):
    rows = [row for row in synthetic_rows() if row.trial == "dpo-00"]
    first = draw_figures(rows, RULE, tmp_path / "a")["pareto_micro"]
    second = draw_figures(rows, RULE, tmp_path / "b")["pareto_micro"]
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".pdf").read_bytes() == second.with_suffix(".pdf").read_bytes()


def test_nothing_touches_the_edge_of_the_page(several_benchmarks, tmp_path):
    from matplotlib.image import imread

    labelled = draw_figures(swept_recipe_key(), RULE, tmp_path)
    for path in [*several_benchmarks.values(), *labelled.values()]:
        page = imread(path)[..., :3]
        for edge in (page[:2], page[-2:], page[:, :2], page[:, -2:]):
            assert edge.min() == 1.0, path  # white: no text is cut off


def test_no_letter_is_smaller_than_6_points_in_a_column(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: sizes.extend(_font_sizes(figure)))
    for name in ("pareto", "iterations", "objectives", "parallel", "hypervolume"):
        one = ROW_FIGURES[name]
        one.draw(one.get(synthetic_rows(), MICRO, RULE), tmp_path / name, Look(width="column", formats=("png",)))
    assert len(sizes) > 100 and min(sizes) >= SMALLEST_PT


def _font_sizes(figure):
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
    return [text.get_fontsize() for text in texts]


def test_a_slide_has_larger_letters_and_lines_than_paper_and_its_block_ends():
    import matplotlib

    before = matplotlib.rcParams["font.size"]
    with drawing(Look("slide")):
        large, line = scaled(7.5), matplotlib.rcParams["lines.linewidth"]
        assert len(new_figure(3, 2, 2, 2)[1]) == 4
    with drawing():
        assert large > 1.3 * scaled(7.5) == pytest.approx(1.3 * 7.5)
        assert line > 1.3 * matplotlib.rcParams["lines.linewidth"]
    assert matplotlib.rcParams["font.size"] == before


def test_text_stays_text_in_svg_and_pdf_and_the_files_are_those_asked_for(tmp_path):
    data = ROW_FIGURES["pareto"].get(synthetic_rows(), MICRO, RULE)
    paths = ROW_FIGURES["pareto"].draw(data, tmp_path / "p", Look(width="column", formats=("svg", "pdf")))
    assert [path.name for path in paths] == ["p.svg", "p.pdf"]
    assert ">Mean response length (tokens)<" in paths[0].read_text()
    assert b"/Type3" not in paths[1].read_bytes()


def _objectives(n):
    rows = [row for row in synthetic_rows() if row.trial == "aipo-00"]
    return [replace(row, trial=f"o{k}", objective=f"o{k}") for k in range(n) for row in rows]


def _search(n_trials, iterations):
    known = [row for row in synthetic_rows() if row.trial == "dpo-00"]
    rows = [replace(known[min(t, 3)], iteration=t) for t in range(iterations + 1)]
    return [
        replace(row, trial=f"t{k}", hyperparameters={"beta": f"{0.01 + k / 900:.4f}", "gamma": str(k % 3)})
        for k in range(n_trials)
        for row in rows
    ]


@pytest.mark.parametrize(
    "rows",
    [_objectives(10), _search(120, 1), _search(2, 20), _search(1, 1), [replace(r, metrics={}) for r in _search(1, 1)]],
    ids=["10-objectives", "120-trials", "20-iterations", "one-trial", "no-metrics"],
)
def test_hard_inputs_are_drawn_without_a_warning(rows, tmp_path, recwarn):
    for name in ("pareto", "objectives", "parallel", "hypervolume"):
        data = ROW_FIGURES[name].get(rows, MICRO, RULE)
        drawn = ROW_FIGURES[name].draw(data, tmp_path / name, Look(formats=("svg",)))
        assert bool(drawn) == (len(data) > 0)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("name", ["pareto", "iterations", "objectives"])
def test_the_axis_of_a_rate_ends_within_a_margin_of_100_and_has_no_tick_beyond(name, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
    sure = {"micro/judged_win_rate": 100.0, "micro/judged_win_rate_se": 3.0, "micro/win_rate": 0.0}
    few = [row for row in synthetic_rows() if row.trial in ("dpo-00", "aipo-00")]
    rows = [replace(row, metrics=row.metrics | sure) for row in few]
    figure = ROW_FIGURES[name]
    figure.draw(figure.get(rows, MICRO, RULE), tmp_path / name, Look(formats=("png",)))
    rates = [axes for one in drawn for axes in one.axes if "(%)" in (axes.get_ylabel() or one.get_supylabel())]
    assert rates
    for axes in rates:
        low, high = axes.get_ylim()
        assert low < high and low > -6 and high < 106
        shown = [tick for tick in axes.get_yticks() if low <= tick <= high]
        assert min(shown) >= 0 and max(shown) <= 100


def test_a_range_is_only_cut_where_it_leaves_what_a_rate_can_be():
    assert rate_range(40, 60, "Win rate (%)") == (40, 60)
    assert rate_range(-7, 110, "Win rate (%)") == (-5, 105)
    assert rate_range(90, 110, "Win rate (%)") == (90, 100.5)
    assert rate_range(0.2, 110, "MT-Bench score (1-10)") == (0.2, 110)


@pytest.mark.parametrize("figure", SET)
@pytest.mark.parametrize("benchmark", ["alpaca_eval", "ifeval", "micro"])
def test_a_caption_says_what_its_axes_show(figure, benchmark):
    metrics = BENCHMARK_METRICS[benchmark]
    caption = figure_caption(f"{figure}_{benchmark}").lower()
    assert metrics.win_rate_label.lower() in caption
    assert metrics.length_label.lower() in caption or figure == "iterations"


def test_figure_modules_import_without_matplotlib():
    check = "import sys, aipo_lab.figures.draw; sys.exit('matplotlib' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
