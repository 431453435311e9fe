"""The paper's tables beside a sweep's: numbers as printed, seeds together, rows matched, in three formats."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_sweep import SPACE, run_small_sweep

from aipo_lab.cli import main
from aipo_lab.core.errors import UserError
from aipo_lab.report.paper_tables import get_paper_table, published_tables
from aipo_lab.report.table_data import get_table_data
from aipo_lab.report.table_files import as_csv, as_latex, as_markdown
from aipo_lab.results.repeats import NORMAL_95, student_95
from aipo_lab.results.rows import ResultRow

METRIC = "micro/judged_win_rate"


def row(method: str, iteration: int, value: float, seed: str = "0", **metrics: float) -> ResultRow:
    settings = {"method": method, "seed": seed, "beta": "0.1"}
    known = {METRIC: value, f"{METRIC}_se": 2.0, "micro/length_tokens": 20.0, **metrics}
    return ResultRow(f"{method}-{seed}", "dpo", settings, iteration, "complete", known)


def test_every_table_has_a_source_and_as_many_numbers_as_columns() -> None:
    assert [*published_tables()] == [f"table{n}" for n in range(1, 6)]
    for table in published_tables().values():
        assert "2409.08845, Table" in table["source"]
        assert {len(one["values"]) for one in table["rows"]} == {len(table["columns"])}


@pytest.mark.parametrize(
    ("name", "label", "metric", "value"),
    [
        ("table1", "SI(UF), PairRM(Gen(SI(UF)))", "arena_hard/win_rate", 19.6),
        ("table2", "Self-Generated", "pairs/chosen_logps", -107.8),
        ("table3", "Mistral-Nemo-Instruct-2407: AIPO", "alpaca_eval/length_chars", 2122),
        ("table4", "External LLM", "alpaca_eval/win_rate", 19.6),
        ("table5", "w/ Filtering", "mt_bench/score", 6.4),
    ],
)
def test_numbers_are_those_of_the_paper(name: str, label: str, metric: str, value: float) -> None:
    rows = [row("x", 1, 50.0), row("x", 0, 50.0, **{"pairs/s_ref": 1.0})]
    paper = {one.label: one.numbers for one in get_paper_table(name, "s", rows).paper}
    assert paper[label][metric].value == value


def test_the_last_iteration_stands_beside_its_row_with_an_interval_over_prompts() -> None:
    table = get_paper_table("table4", "sweep", [row("pairrm", t, 50.0 + t) for t in range(3)])
    (line,) = table.sweep
    assert (line.beside, line.label) == ("PairRM", "pairrm β=0.1, iteration 2")
    assert line.numbers[METRIC].value == 52.0
    assert line.numbers[METRIC].half_width == pytest.approx(NORMAL_95 * 2.0)
    assert get_paper_table("table4", "sweep", [row("other", 1, 50.0)]).sweep[0].beside == ""


def test_seeds_are_one_line_whose_interval_includes_what_lies_between_them() -> None:
    rows = [row("pairrm", 1, value, seed) for seed, value in (("0", 50.0), ("1", 56.0))]
    (line,) = get_paper_table("table4", "sweep", rows).sweep
    assert (line.seeds, line.numbers[METRIC].value) == (2, 53.0)
    between = student_95(1) * (18**0.5) / 2**0.5
    assert line.numbers[METRIC].half_width == pytest.approx((between**2 + (NORMAL_95 * 2) ** 2) ** 0.5)


def test_table_3_is_of_the_iteration_that_wins_most() -> None:
    rows = [row("aipo", 1, 60.0), row("aipo", 2, 70.0), row("aipo", 3, 65.0)]
    assert get_paper_table("table3", "sweep", rows).sweep[0].label.endswith("iteration 2")


def test_table_2_is_of_the_first_pairs() -> None:
    pairs = {"pairs/s_ref": 1.5, "pairs/similarity": 0.8, "pairs/similarity_se": 0.01}
    rows = [row("external", 0, 50.0, **pairs), row("external", 1, 60.0, **pairs | {"pairs/similarity": 0.1})]
    table = get_paper_table("table2", "sweep", rows)
    assert list(table.sweep_columns) == ["pairs/similarity", "pairs/s_ref"]
    assert table.sweep[0].numbers["pairs/similarity"].value == 0.8
    with pytest.raises(UserError, match=r"nothing to set beside table2: it needs analysed pairs"):
        get_paper_table("table2", "sweep", [row("external", 0, 50.0)])


def test_what_cannot_be_made_says_so() -> None:
    with pytest.raises(UserError, match=r"'table6' is no table.*table1"):
        get_paper_table("table6", "sweep", [row("x", 1, 1.0)])
    with pytest.raises(UserError, match="needs a complete trained iteration"):
        get_paper_table("table1", "sweep", [row("x", 0, 50.0)])


def test_the_three_formats_keep_paper_and_sweep_apart() -> None:
    table = get_paper_table("table5", "my_sweep", [row("a|b & c", 1, 55.25)])
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert [line["source"] for line in lines] == ["paper", "paper", "sweep"]
    assert (lines[0]["mt_bench/score"], lines[0][METRIC], lines[2]["mt_bench/score"]) == ("6.3", "", "")
    assert float(lines[2][f"{METRIC}_low"]) == pytest.approx(55.25 - NORMAL_95 * 2, abs=1e-4)
    markdown = as_markdown(table)
    assert markdown.index("## The paper (arXiv 2409.08845, Table 5") < markdown.index("## This sweep (my_sweep)")
    assert "a\\|b & c" in markdown and "55.2 ± 3.9" in markdown
    latex = as_latex(table)
    assert r"a|b \& c" in latex and r"$\pm$" in latex and r"my\_sweep" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    for line in latex.splitlines():
        if line.endswith(r"\\"):
            assert line.replace(r"\&", "").count("&") in (3, 4)


@pytest.fixture(scope="module")
def analysed_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analysed")
    run_small_sweep(folder, SPACE[:1], iterations=1, analysis__similarity="words")
    return folder


def test_a_sweep_with_analysed_pairs_gives_table_2_figures_and_columns(analysed_sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(analysed_sweep / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / "tiny"
    assert {path.name for path in (folder / "figures").glob("figure*.png")} == {
        "figure5_pairs.png",
        "figure6_pairs.png",
    }
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert float(rows[0]["pairs/s_ref_se"]) > 0 and rows[1]["pairs/s_ref"] == ""
    assert "figure5_pairs" in (folder / "report.html").read_text()
    done = CliRunner().invoke(main, ["figure", "table2", str(folder), "--store", str(tmp_path / "runs" / "store")])
    assert done.exit_code == 0, done.output
    assert "Externally-Generated" in done.output and "## This sweep (tiny)" in done.output
    assert {path.suffix for path in (folder / "tables").iterdir()} == {".csv", ".md", ".tex"}
    (folder / "figures" / "figure5_pairs.png").unlink()
    done = CliRunner().invoke(main, ["figure", "figure5", str(folder), "--store", str(tmp_path / "runs" / "store")])
    assert done.exit_code == 0 and (folder / "figures" / "figure5_pairs.png").is_file()
    done = CliRunner().invoke(main, ["figure", "table9", str(folder)])
    assert done.exit_code == 2 and "table1" in done.output


def test_what_the_store_lost_of_the_pairs_stays_in_results(analysed_sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(analysed_sweep / "runs", tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "store" / "analyse")
    folder = tmp_path / "runs" / "tiny"
    before = (folder / "results.csv").read_bytes()
    done = CliRunner().invoke(main, ["report", str(folder), "--store", str(tmp_path / "runs" / "store")])
    assert done.exit_code == 0, done.output
    assert (folder / "results.csv").read_bytes() == before


def test_as_data_a_table_has_a_line_for_each_number_of_both_blocks() -> None:
    table = get_paper_table("table4", "sweep", [row("pairrm", t, 50.0 + t) for t in range(3)])
    data = get_table_data(table)
    numbers = sum(len(one.numbers) for one in (*table.paper, *table.sweep))
    assert len(data) == numbers and set(data["source"]) == {"paper", "sweep"}
    own = data[(data["source"] == "sweep") & (data["metric"] == METRIC)].iloc[0]
    assert (own["value"], own["paper_row"]) == (52.0, "PairRM")
    assert own["half_width"] == pytest.approx(NORMAL_95 * 2.0)
    assert data[data["source"] == "paper"]["half_width"].isna().all()
