"""Sweeps beside each other: names, recipes that differ, what cannot be compared, and what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_store import make_up

from aipo_lab.console.compare_view import show_comparison
from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.sweeps.comparing import compare_sweeps
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.sweep import load_sweep


def swept(folder: Path, name: str, out: str, recipe: str = "iterations: 2") -> Path:
    """The output folder of a finished sweep with made-up results."""
    objectives = "[{objective: dpo, beta: [0.1]}, {objective: simpo, beta: [2.0], gamma: [0.5]}]"
    (folder / f"{out}.yaml").write_text(f"name: {name}\nrecipe: {{{recipe}}}\nspace: {objectives}\n")
    study = Study.open(load_sweep(folder / f"{out}.yaml"), Store(folder / "store"), folder / out, folder)
    make_up(study.store, study.graph.nodes.values())
    study.write_results()
    return folder / out


def test_contenders_carry_the_name_of_their_sweep_and_recipes_their_differences(tmp_path: Path) -> None:
    one, other = swept(tmp_path, "one", "a"), swept(tmp_path, "two", "b", "iterations: 2, train.learning_rate: 1.0e-5")
    made = compare_sweeps([one, other])
    assert made.names == ("one", "two")
    assert {row.contender for row in made.rows} == {"DPO (one)", "SimPO (one)", "DPO (two)", "SimPO (two)"}
    assert {row.trial.split(":")[0] for row in made.rows} == {"one", "two"}
    (change,) = made.recipes["two"]
    assert (change.name, change.here) == ("train.learning_rate", 1e-5)
    assert made.unlike() == []
    assert made.benchmarks() == ["micro"]


def test_sweeps_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [swept(tmp_path, "same", "a"), swept(tmp_path, "same", "b", "iterations: 1")]
    assert compare_sweeps(folders).names == ("a", "b")


def test_other_prompts_or_worlds_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = swept(tmp_path, "one", "a"), swept(tmp_path, "two", "b", "iterations: 2, benchmarks.micro.n_prompts: 64")
    show_comparison(folders, None, None)
    said = capsys.readouterr().out
    assert "warning: not the same prompts" in said and "benchmarks.micro.n_prompts is 64" in said


def test_pairs_between_sweeps_are_shown_and_all_of_them_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    folders = swept(tmp_path, "one", "a"), swept(tmp_path, "two", "b", "iterations: 2, train.learning_rate: 1.0e-5")
    show_comparison(folders, None, tmp_path / "cmp")
    said = " ".join(capsys.readouterr().out.split())
    assert "Against the base model, after iteration 2" in said
    assert "DPO (one) – DPO (two)" in said and "DPO (one) – SimPO (one)" not in said
    written = (tmp_path / "cmp" / "differences_micro.csv").read_text().splitlines()
    assert len(written) == 1 + 6
    assert any(line.startswith("DPO (one) – DPO (two)") for line in written)
    assert (tmp_path / "cmp" / "pareto_micro.png").is_file()


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one = swept(tmp_path, "one", "a")
    for folders in ([one], [one, one]):
        with pytest.raises(UserError, match="two or more different sweeps"):
            compare_sweeps(folders)
    with pytest.raises(UserError, match="holds no sweep"):
        compare_sweeps([one, tmp_path])
