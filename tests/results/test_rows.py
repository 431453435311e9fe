"""results.csv is read back as it was written, also as earlier versions wrote it."""

from __future__ import annotations

from pathlib import Path

from aipo_lab.results.rows import ResultRow, read_results, write_results
from aipo_lab.sweeps.keeping import keep_earlier


def row(state: str, checkpoint: str, **metrics: float) -> ResultRow:
    named = {f"micro/{name}": value for name, value in metrics.items()}
    return ResultRow("dpo-b0.1", "dpo", {"beta": "0.1", "seed": "3"}, 1, state, named, checkpoint)


def test_rows_with_checkpoints_come_back_equal(tmp_path: Path) -> None:
    rows = [row("complete", "train/abc", win_rate=50.0), row("failed", "train/def"), row("pending", "")]
    write_results(tmp_path / "results.csv", rows)
    assert read_results(tmp_path / "results.csv") == rows


def test_a_table_of_an_earlier_version_has_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(
        "trial,objective,beta,alpha,gamma,lambda,iteration,state,seed,micro/win_rate\n"
        "dpo-b0.1,dpo,0.1,,,,1,complete,3,50\n"
    )
    assert read_results(path) == [row("complete", "", win_rate=50.0)]


def test_a_kept_row_keeps_the_checkpoint_that_was_measured() -> None:
    before = row("complete", "train/old", win_rate=50.0)
    earlier = {(before.trial, before.iteration): before}
    assert keep_earlier([row("pending", "train/new")], earlier) == [before]
    complete = row("complete", "train/new", win_rate=60.0)
    assert keep_earlier([complete], earlier) == [complete]
