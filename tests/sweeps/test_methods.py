"""Trials that differ in whole fragments of a recipe: how a sweep file names them, what is in force, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aipo_lab.core.config import parse_override
from aipo_lab.core.errors import UserError
from aipo_lab.core.yaml_text import load_yaml
from aipo_lab.sweeps.methods import load_methods
from aipo_lab.sweeps.spec import SweepSpec
from aipo_lab.sweeps.sweep import Sweep, load_sweep

AIPO = """\
name: mine
profile: micro
recipe:
  respond.n_candidates: 5
  rank: {ranker: length, target_tokens: 20}
space:
  - {objective: aipo, beta: [0.3], alpha: [0.05]}
profiles:
  laptop:
    recipe: {respond.n_candidates: 6}
"""
COMPARE = """\
name: both
profile: micro
recipe: {respond.n_candidates: 3, iterations: 2}
methods:
  mine: aipo.yaml
  plain: {objective.name: dpo, train: {epochs: 2}}
space:
  - {method: all, seed: [0, 1]}
"""


def load(folder: Path, text: str = COMPARE, aipo: str = AIPO, profile: str | None = None, sets: str = "") -> Sweep:
    (folder / "compare.yaml").write_text(text)
    (folder / "aipo.yaml").write_text(aipo)
    return load_sweep(folder / "compare.yaml", profile, [parse_override(one) for one in sets.split()], check=True)


def test_a_trial_is_its_method_on_the_sweeps_recipe(tmp_path: Path) -> None:
    sweep = load(tmp_path)
    assert [trial.name for trial in sweep.trials] == ["mine-seed=0", "mine-seed=1", "plain-seed=0", "plain-seed=1"]
    mine, plain = sweep.trials[1].recipe, sweep.trials[2].recipe
    assert (mine.objective.name, mine.objective.beta, mine.rank.ranker, mine.seed) == ("aipo", 0.3, "length", 1)
    assert (plain.objective.name, plain.train.epochs, plain.rank.ranker, plain.seed) == ("dpo", 2, "proxy", 0)
    assert (mine.respond.n_candidates, plain.respond.n_candidates) == (5, 3)  # a method is stronger than `recipe`
    assert (mine.iterations, plain.iterations) == (2, 2)
    assert sweep.trials[0].hyperparameters() == {
        "method": "mine",
        "beta": "0.3",
        "alpha": "0.05",
        "lambda": "0.2",
        "seed": "0",
    }


def test_a_methods_file_has_its_scales_and_set_is_stronger(tmp_path: Path) -> None:
    text = COMPARE.replace("profile: micro", "profile: laptop")
    assert load(tmp_path, text).trials[0].recipe.respond.n_candidates == 6
    given = load(tmp_path, sets="respond.n_candidates=2 train.epochs=7").trials
    assert {(trial.recipe.respond.n_candidates, trial.recipe.train.epochs) for trial in given} == {(2, 7)}
    assert given[0].recipe.rank.ranker == "length"


def test_points_do_not_leak_into_each_other_through_a_methods_sections(tmp_path: Path) -> None:
    text = COMPARE.replace("{method: all, seed: [0, 1]}", "{method: plain, pairs.limit: [30, 40]}")
    text = text.replace("train: {epochs: 2}", "pairs: {source: world, limit: 20}") + "  - {method: plain}\n"
    limits = [trial.recipe.pairs.limit for trial in load(tmp_path, text).trials if trial.recipe.pairs is not None]
    assert limits == [30, 40, 20]


def test_a_method_says_the_same_whatever_file_it_is_written_in(tmp_path: Path) -> None:
    """Keys go by values: a method inline and in a file, and a plain trial, are one recipe."""
    inline = {"objective.name": "aipo", "objective.beta": 0.3, "objective.alpha": 0.05, "respond.n_candidates": 5}
    inline["rank"] = {"ranker": "length", "target_tokens": 20}
    values = yaml.safe_load(COMPARE) | {"methods": {"mine": inline}}
    written = load(tmp_path, yaml.safe_dump(values)).trials[0]
    in_file = load(tmp_path).trials[0]
    alone = load_sweep(tmp_path / "aipo.yaml", None, [("iterations", 2)]).trials[0]
    assert written.content() == in_file.content() == alone.content()


def test_the_example_of_the_docs_is_a_sweep() -> None:
    root = Path(__file__).parents[2]
    example = next(
        block for block in (root / "docs" / "methods.md").read_text().split("```yaml\n")[1:] if "methods:" in block
    )
    path = root / "sweeps" / "methods" / "compare.yaml"
    text = example.split("```")[0].replace("aipo.yaml", str(path.with_name("aipo.yaml")))
    document = load_yaml(text)
    spec = SweepSpec.model_validate(document.value)
    assert set(load_methods(spec.methods, document, path, "micro")) == {"aipo", "long"}


BAD = {
    "unknown method": ("{method: all,", "{method: [mine, plan],", r"line 8: space entry 1: unknown method 'plan'; did"),
    "both": ("{method: all,", "{method: all, objective: dpo,", "objective: a method says it itself; drop one"),
    "a hyperparameter": ("{method: all,", "{method: all, beta: [0.1],", "unknown key 'beta' beside method"),
    "no methods": ("{method: all,", "{objective: dpo, bta: [1],", "unknown key 'bta' for dpo"),
    "no file": ("aipo.yaml", "nowhere.yaml", r"line 5: methods.mine: method's file not found: .*nowhere.yaml"),
    "no objective": ("objective.name: dpo, ", "", "methods.plain: a method says which objective it trains"),
    "a number": ("mine: aipo.yaml", "mine: 5", "methods.mine"),
    "a bad name": ("mine: aipo.yaml", "All: aipo.yaml", "'All' is no name of a method"),
    "a reserved name": ("mine: aipo.yaml", "all: aipo.yaml", "not 'all', which stands for every method"),
    "given twice": ("train: {epochs: 2}", "train: {epochs: 2}, train.epochs: 3", "train.epochs is given twice"),
    "a bad key inline": ("epochs: 2", "epoks: 2", r"line 6: train.epoks: unknown key 'epoks'"),
    "the same trial twice": ("plain: {objective.name: dpo, train: {epochs: 2}}", "plain: aipo.yaml", "more than once"),
    "an empty grid": ("seed: [0, 1]", "seed: []", "seed: the grid is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_named_with_their_line_and_the_next_step(name: str, tmp_path: Path) -> None:
    old, new, message = BAD[name]
    assert old in COMPARE
    with pytest.raises(UserError, match=message):
        load(tmp_path, COMPARE.replace(old, new))


BAD_FILES = {
    "several trials": ("beta: [0.3]", "beta: [0.3, 0.4]", "holds 2 trials, and a method is one"),
    "a recipe file": (
        "space:\n  - {objective: aipo, beta: [0.3], alpha: [0.05]}\n",
        "",
        "has no space; a method's file",
    ),
    "a bad key": ("target_tokens", "target_tokns", r"aipo.yaml, line 5: rank.target_tokns: unknown key 'target_tokns'"),
    "a bad hyperparameter": ("alpha", "gamma", r"line 7: space entry 1: unknown key 'gamma' for aipo"),
    "a bad value": ("[0.3]", "[-1]", r"aipo.yaml, line 7: space entry 1: objective"),
    "no yaml": ("name: mine", "name: [", "is not valid YAML"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_mistakes_in_a_methods_file_name_that_file(name: str, tmp_path: Path) -> None:
    old, new, message = BAD_FILES[name]
    assert old in AIPO
    with pytest.raises(UserError, match=message):
        load(tmp_path, aipo=AIPO.replace(old, new))


def test_method_without_the_section_says_where_methods_are_defined(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nspace:\n  - {method: aipo}\n")
    with pytest.raises(UserError, match="defines no methods; say what they are in the section `methods`"):
        load_sweep(tmp_path / "one.yaml")


def test_methods_within_a_methods_file_are_refused(tmp_path: Path) -> None:
    nested = "name: nested\nmethods: {a: {objective.name: dpo}}\nspace:\n  - {method: a}\n"
    with pytest.raises(UserError, match=r"aipo\.yaml chooses among methods itself"):
        load(tmp_path, aipo=nested)
