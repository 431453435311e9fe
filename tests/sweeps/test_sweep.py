"""Sweep files become trials: Table 6 exactly, grids, and every way a file can be wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import UserError
from aipo_lab.sweeps.sweep import Sweep, load_sweep, single_run, trial_name

SWEEPS = Path(__file__).parents[2] / "sweeps"

# The paper's Table 6, written out: objective, then beta, alpha, gamma, lambda
TABLE_6 = [
    ("dpo", 0.1, None, None, None),
    ("dpo", 0.5, None, None, None),
    ("dpo", 1.0, None, None, None),
    ("dpo_nll", 0.1, 0.2, None, None),
    ("dpo_nll", 0.1, 0.4, None, None),
    ("dpo_nll", 0.1, 0.6, None, None),
    ("simpo", 2.0, None, 0.5, None),
    ("simpo", 2.0, None, 1.0, None),
    ("simpo", 3.0, None, 0.5, None),
    ("simpo", 3.0, None, 1.0, None),
    ("alpha_dpo", 0.1, 0.02, None, None),
    ("alpha_dpo", 0.1, 0.03, None, None),
    ("alpha_dpo", 0.1, 0.04, None, None),
    ("alpha_dpo", 0.1, 0.05, None, None),
    ("aipo", 0.1, 0.03, None, 0.2),
    ("aipo", 0.1, 0.03, None, 0.5),
    ("aipo", 0.1, 0.05, None, 0.2),
    ("aipo", 0.1, 0.05, None, 0.5),
    ("aipo", 0.1, 0.07, None, 0.2),
    ("aipo", 0.1, 0.07, None, 0.5),
]


@pytest.fixture
def sweep_file(tmp_path: Path):
    """Writes a sweep file: `space` and whatever else it says."""

    def write(space: Any, **more: Any) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"name": "mine", "space": space, **more}, sort_keys=False))
        return path

    return write


def refused(path: Path, *arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_sweep(path, *arguments)
    return str(caught.value)


def as_run(sweep: Sweep) -> list[tuple[Any, ...]]:
    """What each trial trains with, read off the objective that the train stage builds."""
    rows = []
    for trial in sweep.trials:
        for t in range(trial.recipe.iterations):
            built = trial.recipe.objective.at(t).build()
            values = [built.hyperparameters.get(name) for name in ("beta", "alpha", "gamma", "lambda_")]
            assert built.hyperparameters["label_smoothing"] == 0
            assert built.definition.loss.__name__ == built.name
        rows.append((built.name, *values))
    return rows


@pytest.mark.parametrize("profile", [None, "laptop"])
def test_table_6_is_the_papers_table_6(profile: str | None) -> None:
    sweep = load_sweep(SWEEPS / "table6.yaml", profile)
    assert as_run(sweep) == TABLE_6
    assert [trial.objective for trial in sweep.trials] == [row[0] for row in TABLE_6]
    assert len({trial.name for trial in sweep.trials}) == 20
    assert Counter(trial.objective for trial in sweep.trials) == {
        "dpo": 3,
        "dpo_nll": 3,
        "simpo": 4,
        "alpha_dpo": 4,
        "aipo": 6,
    }


def test_the_trials_of_table_6_differ_in_their_objective_only() -> None:
    recipes = [trial.recipe.resolved() for trial in load_sweep(SWEEPS / "table6.yaml").trials]
    without = [{key: value for key, value in recipe.items() if key != "objective"} for recipe in recipes]
    assert all(one == without[0] for one in without)
    assert without[0]["iterations"] >= 3


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", [None, "laptop", "micro"])
def test_every_shipped_sweep_loads_with_every_profile(path: Path, profile: str | None) -> None:
    sweep = load_sweep(path, profile)
    assert sweep.name.startswith(path.stem)
    assert sweep.description
    assert sweep.profile == (profile or "micro")


def test_another_profile_gets_another_name_and_so_another_folder() -> None:
    assert load_sweep(SWEEPS / "table6.yaml", "laptop").name == "table6-laptop"
    assert load_sweep(SWEEPS / "table6.yaml", "micro").name == "table6"


def test_a_grid_is_the_product_of_its_lists_the_last_fastest(sweep_file) -> None:
    sweep = load_sweep(sweep_file([{"objective": "aipo", "beta": [0.1, 0.2], "alpha": 0.05, "lambda": [0.0, 0.5]}]))
    assert [row[1:] for row in as_run(sweep)] == [
        (0.1, 0.05, None, 0.0),
        (0.1, 0.05, None, 0.5),
        (0.2, 0.05, None, 0.0),
        (0.2, 0.05, None, 0.5),
    ]
    assert [trial.name for trial in sweep.trials][:2] == ["aipo-b0.1-a0.05-l0", "aipo-b0.1-a0.05-l0.5"]


@given(
    betas=st.lists(st.integers(1, 500), min_size=1, max_size=4, unique=True),
    gammas=st.lists(st.integers(0, 500), min_size=1, max_size=4, unique=True),
)
def test_every_point_of_a_grid_becomes_one_trial_with_its_own_name(
    tmp_path_factory: pytest.TempPathFactory, betas: list[int], gammas: list[int]
) -> None:
    path = tmp_path_factory.mktemp("grid") / "g.yaml"
    space = {"objective": "simpo", "beta": [b / 100 for b in betas], "gamma": [g / 100 for g in gammas]}
    path.write_text(yaml.safe_dump({"name": "g", "space": [space]}))
    trials = load_sweep(path).trials
    assert len({trial.name for trial in trials}) == len(betas) * len(gammas)
    points = {(b / 100, g / 100) for b in betas for g in gammas}
    at = [trial.recipe.objective.at(0).hyperparameters for trial in trials]
    assert {(one["beta"], one["gamma"]) for one in at} == points


def test_a_schedule_can_be_swept(sweep_file) -> None:
    path = sweep_file([{"objective": "dpo", "beta": [0.1, [0.1, 0.2, 0.4]]}], recipe={"iterations": 3})
    fixed, scheduled = load_sweep(path).trials
    assert [fixed.recipe.objective.at(t).hyperparameters["beta"] for t in range(3)] == [0.1, 0.1, 0.1]
    assert [scheduled.recipe.objective.at(t).hyperparameters["beta"] for t in range(3)] == [0.1, 0.2, 0.4]
    assert scheduled.hyperparameters()["beta"] == "[0.1, 0.2, 0.4]"
    assert "a schedule needs one value per iteration" in refused(path, None, [("iterations", 2)])


def test_a_recipe_key_can_be_swept_and_is_shown(sweep_file) -> None:
    trials = load_sweep(sweep_file([{"objective": "dpo", "train.learning_rate": [0.0003, 0.001]}])).trials
    assert [trial.recipe.train.learning_rate for trial in trials] == [0.0003, 0.001]
    assert [trial.hyperparameters()["train.learning_rate"] for trial in trials] == ["0.0003", "0.001"]
    assert len({trial.name for trial in trials}) == 2


def test_two_recipe_keys_that_end_alike_make_different_names(sweep_file) -> None:
    space = [
        {"objective": "dpo", "instruct.sampling.temperature": [0.5]},
        {"objective": "dpo", "respond.sampling.temperature": [0.5]},
    ]
    assert len({trial.name for trial in load_sweep(sweep_file(space)).trials}) == 2


def test_changes_of_the_file_and_the_command_line_reach_every_trial(sweep_file) -> None:
    path = sweep_file(
        [{"objective": "dpo", "beta": [0.1, 0.5]}], recipe={"train.batch_size": 7, "iterations": 2, "seed": 5}
    )
    for trial in load_sweep(path, None, [("iterations", 1), ("respond.n_candidates", 3)]).trials:
        recipe = trial.recipe
        assert (recipe.train.batch_size, recipe.seed) == (7, 5)
        assert (recipe.iterations, recipe.respond.n_candidates) == (1, 3)  # the command line wins


def test_what_the_profile_says_of_an_objective_stays_unless_swept(sweep_file) -> None:
    path = sweep_file([{"objective": "dpo", "beta": [0.5]}], recipe={"objective.label_smoothing": 0.1})
    (trial,) = load_sweep(path).trials
    assert trial.recipe.objective.at(0).hyperparameters == {"beta": 0.5, "label_smoothing": 0.1}
    assert trial.hyperparameters() == {"beta": "0.5", "label_smoothing": "0.1"}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([{"objective": "dpo", "beta": []}], "beta: the grid is empty; give at least one value"),
        ([], "space: "),
        ([{"beta": [0.1]}], "space entry 1: required key 'objective' is missing"),
        ([{"objective": "dpo2", "beta": [0.1]}], "space entry 1: unknown objective 'dpo2'; did you mean 'dpo'?"),
        ([{"objective": ["dpo", "simpo"]}], "space entry 1: unknown objective ['dpo', 'simpo']"),
        ([{"objective": "dpo", "gamma": [0.1]}], "unknown key 'gamma' for dpo"),
        ([{"objective": "dpo", "betta": [0.1]}], "did you mean 'beta'?"),
        ([{"objective": "dpo", "beta": [0.1, -1]}], "beta = -1"),
        ([{"objective": "dpo", "beta": ["high"]}], "must be a number"),
        ([{"objective": "dpo", "train.batchsize": [1]}], "train.batchsize: unknown key 'batchsize'"),
        ([{"objective": "dpo", "train": [1]}], "unknown key 'train' for dpo"),
        ([{"objective": "dpo", "beta": [0.1, 0.1]}], "dpo-b0.1 more than once"),
        ([{"objective": "dpo", "beta": [0.1]}] * 2, "dpo-b0.1 more than once"),
        ({"objective": "dpo"}, "space: "),
        ("dpo", "space: "),
    ],
)
def test_a_space_that_is_wrong_is_refused_by_entry_and_rule(sweep_file, space: Any, message: str) -> None:
    text = refused(sweep_file(space))
    assert message in text
    assert "mine.yaml" in text


def test_an_unknown_objective_or_key_lists_the_valid_ones(sweep_file) -> None:
    text = refused(sweep_file([{"objective": "ppo"}, {"objective": "aipo", "gama": [1]}]))
    assert "valid: dpo, dpo_nll, simpo, alpha_dpo, aipo" in text
    assert "space entry 2: unknown key 'gama' for aipo; " in text
    assert "valid: beta, alpha, lambda, label_smoothing" in text


def test_problems_of_several_entries_come_together_each_once(sweep_file) -> None:
    space = [{"objective": "dpo", "beta": [-1, 0.1, 0.2]}, {"objective": "simpo", "gamma": [-5]}]
    text = refused(sweep_file(space, recipe={"train.batchsize": 1}))
    for part in ("beta = -1", "gamma = -5", "train.batchsize"):
        assert text.count(part) == 1, text


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("profil", "micro", "profil: unknown key 'profil'; did you mean 'profile'?"),
        ("name", "a/b", "name: "),
        ("name", "", "name: "),
        ("profile", "mikro", "unknown profile 'mikro'; did you mean 'micro'?"),
        ("select", "best", "best"),
        ("select", "corner@1x", "must be greater than 1"),
        ("select", {"rule": "best"}, "best"),
        ("select", {"role": "corner"}, "unknown key 'role'; did you mean 'rule'?"),
        ("select", {"split": "half"}, "select.split: "),
        ("recipe", {"train.batch_size": -1}, "train.batch_size: "),
        ("recipe", {"objectiv.beta": 1}, "objectiv: unknown key 'objectiv'; did you mean 'objective'?"),
        ("recipe", {"train": 5}, "it is a section"),
        ("recipe", [1], "recipe: "),
    ],
)
def test_the_rest_of_the_file_is_checked_too(sweep_file, key: str, value: Any, message: str) -> None:
    assert message in refused(sweep_file([{"objective": "dpo"}], **{key: value}))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "none.yaml" in refused(tmp_path / "none.yaml")


def test_an_unknown_profile_on_the_command_line_lists_the_valid_ones(sweep_file) -> None:
    text = refused(sweep_file([{"objective": "dpo"}]), "papper")
    assert "unknown profile 'papper'" in text
    assert "laptop, micro" in text


@pytest.mark.parametrize("key", ["objective.beta", "objective.name", "train.learning_rate"])
def test_what_is_swept_cannot_be_set_as_well(sweep_file, key: str) -> None:
    path = sweep_file([{"objective": "dpo", "beta": [0.1], "train.learning_rate": [0.001]}])
    text = refused(path, None, [(key, 0.5)])
    assert f"space entry 1: {key} is set by --set and swept here; drop one of the two" in text


def test_a_hyperparameter_that_only_some_objectives_know_is_refused_for_the_others() -> None:
    text = refused(SWEEPS / "table6.yaml", None, [("objective.label_smoothing", 0.9)])
    assert "label_smoothing = 0.9 must be >= 0 and <= 0.5" in text
    assert "unknown hyperparameter 'gamma' of dpo" in refused(
        SWEEPS / "length_bias.yaml", None, [("objective.gamma", 1)]
    )


def test_a_single_run_is_a_sweep_of_one(tmp_path: Path) -> None:
    sweep = single_run("micro", [("objective.name", "aipo"), ("objective.lambda", 0.5)])
    (trial,) = sweep.trials
    assert (trial.objective, trial.hyperparameters()["lambda"]) == ("aipo", "0.5")
    assert sweep.name == "micro-aipo"
    path = tmp_path / "mine.yaml"
    path.write_text("iterations: 1\n")
    assert single_run(str(path)).name == "mine-dpo"


@given(st.floats(1e-9, 1e9), st.text(max_size=8))
def test_a_trial_name_is_a_safe_file_name(value: float, text: str) -> None:
    name = trial_name({"objective": "dpo", "beta": value, "rank.ranker": text, "objective.alpha": [value, value]})
    assert "/" not in name and " " not in name and "\n" not in name


def test_seeds_can_be_swept(tmp_path: Path) -> None:
    file = tmp_path / "seeds.yaml"
    file.write_text("name: seeds\nspace: [{objective: dpo, beta: [0.1], seed: [0, 1]}]\n")
    trials = load_sweep(file).trials
    assert [(trial.name, trial.recipe.seed) for trial in trials] == [("dpo-b0.1-seed=0", 0), ("dpo-b0.1-seed=1", 1)]
    assert [trial.hyperparameters()["seed"] for trial in trials] == ["0", "1"]


@pytest.mark.parametrize("rule", ["max:winrate", "max:micro/win_rat", "max:arena_hard/win_rate"])
def test_a_rule_on_a_metric_nobody_reports_is_refused_before_any_work(tmp_path: Path, rule: str) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text(f"name: rule\nspace: [{{objective: dpo, beta: [0.1]}}]\nselect: {rule}\n")
    with pytest.raises(UserError, match=r"no benchmark of this sweep reports .* micro/win_rate"):
        load_sweep(file)


@pytest.mark.parametrize(
    ("select", "rule", "split"),
    [
        (None, "corner", True),
        ("knee", "knee", True),
        ({"split": False}, "corner", False),
        ({"rule": "corner@3x", "split": False}, "corner@3x", False),
    ],
)
def test_how_to_choose_is_a_rule_or_a_section(tmp_path: Path, select: Any, rule: str, split: bool) -> None:
    file = tmp_path / "rule.yaml"
    values = {"name": "rule", "space": [{"objective": "dpo", "beta": [0.1]}]}
    file.write_text(yaml.safe_dump(values | ({} if select is None else {"select": select})))
    sweep = load_sweep(file)
    assert (sweep.select, sweep.split) == (rule, split)


def test_every_sweep_of_the_project_chooses_by_bounds_that_do_not_move() -> None:
    for file in SWEEPS.rglob("*.yaml"):
        assert load_sweep(file).select == "corner", file


def test_recipes_profiles_and_sweep_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a profile, not a sweep file; .* aipo-lab run micro"):
        load_sweep(Path("micro"))
    with pytest.raises(UserError, match=r"is a sweep file, not a recipe; .* aipo-lab sweep"):
        single_run(str(SWEEPS / "table6.yaml"))
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(UserError, match="is empty"):
        load_sweep(tmp_path / "empty.yaml")
