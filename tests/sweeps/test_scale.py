"""One sweep file at several scales: which section stands for the file's own, and where its mistakes were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.sweeps.sweep import load_sweep

FILE = """\
name: scaled
profile: micro
recipe: {iterations: 2}
space:
  - {objective: dpo, beta: [0.1, 0.2]}
profiles:
  paper:
    recipe: {iterations: 4}
    space:
      - {objective: simpo, gamma: [0.5]}
  laptop:
    description: "only other words"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scaled.yaml"
    path.write_text(FILE)
    return path


def test_the_section_of_the_profile_stands_for_the_files_own(file: Path) -> None:
    names = {profile: [one.name for one in load_sweep(file, profile).trials] for profile in (None, "micro", "laptop")}
    assert set(map(tuple, names.values())) == {("dpo-b0.1", "dpo-b0.2")}
    assert load_sweep(file, "laptop").description == "only other words"
    (trial,) = load_sweep(file, "paper").trials
    assert (trial.name, trial.recipe.iterations) == ("simpo-g0.5", 4)


def test_a_profile_that_builds_on_another_takes_its_section(file: Path) -> None:
    sweep = load_sweep(file, "paper-llama-3-8b")
    assert [trial.name for trial in sweep.trials] == ["simpo-g0.5"]
    assert sweep.trials[0].recipe.model.source == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert sweep.profile == "paper-llama-3-8b"


def test_mistakes_in_a_section_are_named_by_its_own_lines(file: Path) -> None:
    file.write_text(FILE.replace("gamma: [0.5]", "gama: [0.5]").replace("iterations: 4", "iteratons: 4"))
    with pytest.raises(UserError, match=r"line 10: space entry 1: unknown key 'gama'"):
        load_sweep(file, "paper")
    file.write_text(FILE.replace("iterations: 4", "iteratons: 4"))
    with pytest.raises(UserError, match=r"line 8: .*iteratons"):
        load_sweep(file, "paper")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  paper:", "  papper:", "unknown profile 'papper'; did you mean 'paper'"),
        ("    recipe: {iterations: 4}", "    selekt: knee", "selekt"),
        ("      - {objective: simpo, gamma: [0.5]}", "      []", "space"),
    ],
)
def test_a_section_is_checked_whatever_the_profile(file: Path, old: str, new: str, message: str) -> None:
    file.write_text(FILE.replace(old, new))
    for profile in (None, "paper"):
        with pytest.raises(UserError, match=message):
            load_sweep(file, profile)
