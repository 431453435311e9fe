"""Sweep and recipe files as people write them: every mistake is named with its file and line, or with its `--set`."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.core.overrides import parse_overrides
from aipo_lab.evaluation.evaluation import evaluation_config
from aipo_lab.sweeps.sweep import load_sweep, single_run

SWEEPS = Path(__file__).parents[2] / "sweeps"
SPACE = "space:\n  - {objective: dpo, beta: [0.1]}\n"

TABLE_6_NAMES = [
    "dpo-b0.1",
    "dpo-b0.5",
    "dpo-b1",
    "dpo_nll-b0.1-a0.2",
    "dpo_nll-b0.1-a0.4",
    "dpo_nll-b0.1-a0.6",
    "simpo-b2-g0.5",
    "simpo-b2-g1",
    "simpo-b3-g0.5",
    "simpo-b3-g1",
    "alpha_dpo-b0.1-a0.02",
    "alpha_dpo-b0.1-a0.03",
    "alpha_dpo-b0.1-a0.04",
    "alpha_dpo-b0.1-a0.05",
    "aipo-b0.1-a0.03-l0.2",
    "aipo-b0.1-a0.03-l0.5",
    "aipo-b0.1-a0.05-l0.2",
    "aipo-b0.1-a0.05-l0.5",
    "aipo-b0.1-a0.07-l0.2",
    "aipo-b0.1-a0.07-l0.5",
]


def refused(folder: Path, text: str, *settings: str) -> str:
    """The error of a sweep file that says `text`; it names the file."""
    path = folder / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_sweep(path, None, parse_overrides(settings), check=True)
    assert str(path) in str(caught.value)
    return str(caught.value)


def refused_recipe(folder: Path, text: str, *settings: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        single_run(str(path), parse_overrides(settings), check=True)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_names_of_table_6_are_what_they_always_were() -> None:
    assert [trial.name for trial in load_sweep(SWEEPS / "table6.yaml").trials] == TABLE_6_NAMES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"name: a\n{SPACE}    \n  - objective: dpo\n    beta: [0.5]\n    beta: [1.0]\n",
            "line 7: the key 'beta' is given",
        ),
        (f"name: no\n{SPACE}", "line 1: name: Input should be a valid string; put it in quotes (got False"),
        (f"name: 2024\n{SPACE}", "line 1: name: Input should be a valid string; put it in quotes (got 2024)"),
        (f"name: a\nrecipe:\n  seed: 1:30\n{SPACE}", "line 3: 1:30 is one number"),
        (f"name: a\nrecipe:\n  seed: 2024-01-01\n{SPACE}", "line 3: seed: Input should be a valid integer"),
        (
            f"name: a\nrecipe:\n  train: {{epochs: on}}\n{SPACE}",
            "line 3: train.epochs: Input should be a valid integer",
        ),
        (
            f"name: a\nrecipe:\n  train.learning_rate: yes\n{SPACE}",
            "line 3: train.learning_rate: Input should be a valid",
        ),
        (f"name: a\nrecipe:\n  train.batchsize: 8\n{SPACE}", "line 3: train.batchsize: unknown key 'batchsize'"),
        (f"name: a\nprofil: micro\n{SPACE}", "line 2: profil: unknown key 'profil'; did you mean 'profile'?"),
        (f"name: a\nprofile: mikro\n{SPACE}", "line 2: unknown profile 'mikro'"),
        (
            f"name: a\nrecipe: {{train.lora: {{rank: 4}},\n  train.lora.rank: 8}}\n{SPACE}",
            "'train.lora.rank' on line 3",
        ),
        (f"name: a\nrecipe:\n{SPACE}", "line 2: recipe: "),
        ("name: a\nspace:\n", "line 2: space: "),
        ("name: a\nspace:\n  -\n", "line 3: space.0: "),
        (f"name: a\n{SPACE}  - {{objective: dpo2}}\n", "line 4: space entry 2: unknown objective 'dpo2'"),
        (f"name: a\n{SPACE}  - {{objective: dpo, beta: -1}}\n", "line 4: space entry 2: objective: beta = -1.0"),
        (
            f"name: a\n{SPACE}  - {{objective: simpo, beta: 1, objective.beta: 2}}\n",
            "beta and objective.beta set the same",
        ),
        (f"name: a\n{SPACE}  - {{objective: dpo, train: {{epochs: [1, 2]}}}}\n", "dotted: train.epochs)"),
        (f"name: a\n{SPACE}  - {{objective: dpo}}\n", 'line 3: space entry 1 (objective: "dpo", beta: 0.1) and line 4'),
        (f"name: a\nrecipe: {{train.batch_size: 999}}\n{SPACE}", "line 2: train.batch_size: 999 pairs do not exist"),
        (
            f"name: a\n{SPACE}  - {{objective: dpo, train.batch_size: 999}}\n",
            "line 4: space entry 2: train.batch_size: 999",
        ),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_a_setting_given_dotted_and_nested_names_both_lines(tmp_path: Path) -> None:
    text = "recipe:\n  train: {learning_rate: 1e-5}\n  train.learning_rate: 2e-5\n"
    said = "line 4: train.learning_rate is given twice, by 'train' on line 3 and 'train.learning_rate' on line 4"
    assert said in refused(tmp_path, f"name: a\n{text}{SPACE}")
    said = "line 2: train.learning_rate is given twice, by 'train' on line 1"
    assert said in refused_recipe(tmp_path, "train: {learning_rate: 1e-5}\ntrain.learning_rate: 2e-5\n")


@pytest.mark.parametrize("name", ["..", ".", "-x", ".git", "a b", "a/b", "x" * 101, "Store", "evaluations", ""])
def test_a_name_that_can_be_no_folder_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    assert "line 1: name: " in refused(tmp_path, f"name: '{name}'\n{SPACE}")


def test_a_name_has_one_spelling(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: gro\u0308\u00dfe\n{SPACE}", encoding="utf-8")
    assert load_sweep(path).name == "gr\u00f6\u00dfe"


def test_dotted_keys_of_a_recipe_file_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train.batch_size: 8\ntrain: {epochs: 2}\n")
    train = single_run(str(path)).trials[0].recipe.train
    assert (train.batch_size, train.epochs) == (8, 2)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.bach_size=8", "--set 'train.bach_size=8': train.bach_size: unknown key"),
        ("train.epochs=yes", "--set 'train.epochs=yes': train.epochs: Input should be a valid integer"),
        ("train=5", "--set 'train=5': cannot set train to 5: it is a section"),
        ("objective.label_smoothing=0.7", "--set 'objective.label_smoothing=0.7': objective: label_smoothing = 0.7"),
        ("train={batch_size: 0}", "--set 'train={batch_size: 0}': train.batch_size: "),
        ("train.batch_size=1e3", "--set 'train.batch_size=1e3': train.batch_size: 1000 pairs do not exist"),
        ("train.batch_size=256", "--set 'train.batch_size=256': train.warmup_ratio: "),
    ],
)
def test_a_mistake_of_set_is_blamed_on_what_was_typed(tmp_path: Path, setting: str, said: str) -> None:
    assert said in refused(tmp_path, f"name: a\nrecipe: {{train.learning_rate: 1e-4}}\n{SPACE}", setting)
    assert said in refused_recipe(tmp_path, "train: {learning_rate: 1e-4}\n", setting)


def test_what_set_changes_is_no_longer_the_files_fault(tmp_path: Path) -> None:
    text = refused(tmp_path, f"name: a\nrecipe: {{train.batch_size: 8}}\n{SPACE}", "train.batch_size=0")
    assert "--set 'train.batch_size=0': train.batch_size: " in text
    assert "line" not in text


def test_a_section_of_set_beside_a_swept_key_of_that_section_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: a\nspace: [{objective: dpo, train.learning_rate: [1e-4, 1e-3]}]\n")
    sweep = load_sweep(path, None, parse_overrides(["train={batch_size: 8}"]))
    assert [trial.recipe.train.batch_size for trial in sweep.trials] == [8, 8]
    with pytest.raises(UserError, match="train is set by --set and swept here"):
        load_sweep(path, None, parse_overrides(["train={learning_rate: 1e-5}"]))


def test_all_texts_of_set_are_checked_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_overrides(["seed=010", "train", "a=[1,", "iterations=2"])
    text = str(caught.value)
    assert "--set 'seed=010': the value is not valid YAML: 010 is one number" in text
    assert "--set 'train' is not of the form" in text
    assert "--set 'a=[1,': the value is not valid YAML: " in text


def test_a_setting_of_an_evaluation_is_blamed_on_set_too() -> None:
    with pytest.raises(UserError, match=r"--set 'benchmarks.mt_bench.limit=0': benchmarks.mt_bench.limit: "):
        evaluation_config("model", ["mt_bench"], None, "judge", ["benchmarks.mt_bench.limit=0"])


def test_paths_that_are_not_there_say_where_they_were_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}/none.yaml"):
        load_sweep(Path("none.yaml"))
    with pytest.raises(UserError, match=f"{tmp_path}/none.yaml"):
        single_run("none.yaml")
    with pytest.raises(UserError, match=f"{tmp_path}/ds.json"):
        single_run("micro", [("compute.parallel", "zero2"), ("compute.deepspeed", "ds.json")])
    with pytest.raises(UserError, match="neither a profile"):
        single_run("x" * 5000)
    (tmp_path / "ds.json").write_text('{"bf16": {"enabled": true, "enabled": false}}')
    with pytest.raises(UserError, match="gives the key 'enabled' twice"):
        single_run("micro", [("compute.parallel", "zero2"), ("compute.deepspeed", "ds.json")])
