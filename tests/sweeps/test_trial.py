"""Trials are told apart by what they are: equal recipes are one trial, different ones have different names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import UserError
from aipo_lab.figures.palette import setting_label
from aipo_lab.pipeline.recipe import profile_values
from aipo_lab.results.rows import ResultRow, read_results, write_results
from aipo_lab.sweeps.claiming import sweep_id
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.sweep import load_sweep
from aipo_lab.sweeps.trial import MAX_NAME_LENGTH, Trial, build_trials, trial_name

BASE = profile_values("micro")


def trials(*points: dict[str, Any]) -> tuple[Trial, ...]:
    return build_trials(BASE, [{"objective": "dpo"} | point for point in points], "the test")


def refused(*points: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        trials(*points)
    return str(caught.value)


@pytest.mark.parametrize(
    "points",
    [
        [{"seed": 20240101}, {"seed": 20240102}],
        [{"beta": 0.1234567}, {"beta": 0.1234568}],
        [{"beta": 1.0}, {"beta": 1.0000000000000002}],
        [{"beta": [0.1, 0.1, 0.1234567]}, {"beta": [0.1, 0.1, 0.1234568]}],
        [{"model.source": "a/b"}, {"model.source": "a_b"}],
        [{"model.source": "model"}, {"model.source": "MODEL"}],
        [{"model.source": "gr\u00f6\u00dfe"}, {"model.source": "gro\u0308\u00dfe"}],
        [{"model.source": "x" * 300 + "a"}, {"model.source": "x" * 300 + "b"}],
        [
            {"train.lora": {"rank": 4, "target_modules": ["q", "proj_v"]}},
            {"train.lora": {"rank": 4, "target_modules": ["q_proj", "v"]}},
        ],
    ],
)
def test_different_recipes_are_different_trials_with_names_and_labels_of_their_own(
    points: list[dict[str, Any]], tmp_path: Path
) -> None:
    made = trials(*points)
    assert len({trial.content() for trial in made}) == 2
    assert len({trial.name.casefold() for trial in made}) == 2
    assert all(len(trial.name) <= MAX_NAME_LENGTH + 9 for trial in made)
    rows = [ResultRow(trial.name, "dpo", trial.hyperparameters(), 0, "pending") for trial in made]
    assert len({setting_label(row.hyperparameters) for row in rows}) == 2
    write_results(tmp_path / "results.csv", rows)
    assert read_results(tmp_path / "results.csv") == rows


def test_integers_are_in_names_in_full() -> None:
    assert [trial.name for trial in trials({"seed": 20240101}, {"seed": 20240102})] == [
        "dpo-seed=20240101",
        "dpo-seed=20240102",
    ]


@pytest.mark.parametrize(
    "points",
    [
        [{}, {"beta": 0.1}],
        [{"beta": 1}, {"beta": 1.0}],
        [{"beta": 0.1}, {"beta": [0.1, 0.1, 0.1]}],
        [{}, {"label_smoothing": 0}],
        [{}, {"train.lora": None}],
        [{"seed": 0}, {}],
        [{"train.micro_batch_tokens": 1000}, {"train.micro_batch_tokens": 1e3}],
        [{"objective.beta": 0.5}, {"beta": 0.5}],
    ],
)
def test_equal_recipes_are_one_trial_and_the_error_names_both(points: list[dict[str, Any]]) -> None:
    text = refused(*points)
    assert "trial 1 (objective:" in text and "trial 2 (objective:" in text
    assert "are the same trial" in text


def test_a_schedule_that_changes_is_not_its_first_value() -> None:
    assert len(trials({"beta": 0.1}, {"beta": [0.1, 0.1, 0.2]})) == 2


def test_names_do_not_depend_on_the_other_trials_unless_they_look_alike_or_share_a_setting() -> None:
    alone, beside = trials({"model.source": "a/b"}), trials({"model.source": "a/b"}, {"model.source": "c"})
    assert alone[0].name == beside[0].name == "dpo-model.source=a_b"


def test_a_name_leaves_out_what_all_trials_share() -> None:
    shared = {"iterations": 3, "train.epochs": 2}
    names = [trial.name for trial in trials(shared | {"beta": 0.1}, {"seed": 1, "beta": 0.1} | shared)]
    assert names == ["dpo-b0.1", "dpo-seed=1-b0.1"]
    differs = trials({"iterations": 3, "train.epochs": 2}, {"iterations": 3, "train.epochs": 4}, {"iterations": 3})
    assert [trial.name for trial in differs] == ["dpo-train.epochs=2", "dpo-train.epochs=4", "dpo"]


def test_sweeps_of_near_values_are_different_sweeps(tmp_path: Path) -> None:
    ids = []
    for beta in ("0.1234567", "0.1234568"):
        path = tmp_path / "near.yaml"
        path.write_text(f"name: near\nspace: [{{objective: dpo, beta: [{beta}]}}]\n")
        sweep = load_sweep(path)
        ids.append(sweep_id(sweep.name, build_graph(sweep)))
    assert ids[0] != ids[1]


scalars = st.floats(1e-9, 1e9) | st.integers(0, 10**12) | st.text(max_size=200) | st.none() | st.booleans()


@given(st.dictionaries(st.sampled_from(["beta", "a.b", "seed"]), scalars | st.lists(scalars, max_size=3), max_size=3))
def test_a_name_is_a_file_name(point: dict[str, Any]) -> None:
    name = trial_name({"objective": "dpo"} | point)
    assert name.startswith("dpo") and len(name) <= MAX_NAME_LENGTH
    assert all(letter.isalnum() or letter in "._-+=" for letter in name)
