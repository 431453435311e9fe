"""Sweeps: a profile and a search space become trials, each with its own recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARKS
from aipo_lab.core.config import read_yaml_document, suggest, validate
from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins, file_origins
from aipo_lab.core.overrides import apply_all, apply_overrides, set_text
from aipo_lab.core.yaml_text import YamlDocument
from aipo_lab.pipeline.checks import CHECKS, RECIPE_CHECKS, check_recipes
from aipo_lab.pipeline.recipe import Recipe, build_recipe, is_recipe, profile_names, profile_values, recipe_document
from aipo_lab.results.rules import DEFAULT_RULE, SelectionRule, parse_rule
from aipo_lab.sweeps.methods import load_methods, with_methods_named
from aipo_lab.sweeps.scale import at_profile
from aipo_lab.sweeps.space import entry_place, grid, section_problems, space_problems
from aipo_lab.sweeps.spec import SweepSpec
from aipo_lab.sweeps.trial import Trial, build_trials, point_origins, trial_name

__all__ = ["Sweep", "Trial", "build_trials", "load_sweep", "single_run", "trial_name"]


@dataclass(frozen=True)
class Sweep:
    """A sweep with all its trials, ready to run; `methods`: what each method that they name changes.

    `select` is the rule that picks the best trial; with `split` it picks on one half of a benchmark's prompts.
    """

    name: str
    profile: str
    select: str
    base_values: Mapping[str, Any]
    trials: tuple[Trial, ...]
    description: str = ""
    source: str = field(default="", compare=False)
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    split: bool = True


def load_sweep(
    path: Path,
    profile: str | None = None,
    overrides: Sequence[tuple[str, Any]] = (),
    check: bool = False,
    elsewhere: bool = False,
) -> Sweep:
    """The sweep of a file, with `--profile` and `--set` applied; with `check`, one that this machine can run.

    With `elsewhere` as well, one that some machine could run.

    Raises `UserError` with every problem of the file or of any trial's recipe.
    """
    if str(path) in profile_names():
        raise UserError(f"{path} is a profile, not a sweep file; run one trial of it with: aipo-lab run {path}")
    document = at_profile(read_yaml_document(path, "sweep file"), profile)
    source = _with_settings(f"sweep file {path}", overrides)
    spec = validate(SweepSpec, document.value, f"sweep file {path}", file_origins(document))
    space = with_methods_named(spec.space, list(spec.methods))
    if spec.seeds > 1 and (given := [entry for entry in space if "seed" in entry]):
        raise UserError(
            f"{source}: seeds: {spec.seeds} repeats every point with seeds of its own, and space entry "
            f"{space.index(given[0]) + 1} sweeps seed as well; keep one of the two"
        )
    problems = section_problems(spec.recipe, ("recipe",), document)
    problems += space_problems(space, overrides, document, spec.methods)
    if problems:
        raise UserError.from_problems(f"{source} is not valid:", problems)
    rule = parse_rule(spec.select.rule)
    methods = {
        name: method.with_overrides(overrides)
        for name, method in load_methods(spec.methods, document, path, profile or spec.profile).items()
    }
    base = _base_values(profile, spec.profile, document, source)
    origins = _change(base, spec.recipe, file_origins(document, ("recipe",)), overrides, source)
    if spec.seeds > 1:
        first = build_recipe(base, source=source, origins=origins).seed
        space = [{**entry, "seed": list(range(first, first + spec.seeds))} for entry in space]
    places = [entry_place(number, document) for number, entry in enumerate(space) for _ in grid(entry)]
    points = [point for entry in space for point in grid(entry)]
    trials = build_trials(base, points, source, origins, places, methods)
    _check_metric(rule, trials[0].recipe)
    if check:
        written = [
            point_origins(origins, trial.settings, place, methods) for trial, place in zip(trials, places, strict=True)
        ]
        recipes = list(zip((trial.recipe for trial in trials), written, strict=True))
        check_recipes(recipes, source, RECIPE_CHECKS if elsewhere else CHECKS)
    _pin_judge(base, trials[0].recipe)
    return Sweep(
        name=spec.name if profile in (None, spec.profile) else f"{spec.name}-{profile}",
        profile=str(base["profile"]),
        select=spec.select.rule,
        base_values=base,
        trials=trials,
        description=spec.description,
        source=str(path),
        methods={name: method.changes for name, method in methods.items()},
        split=spec.select.split,
    )


def load_plannable(path: Path, profile: str | None, overrides: Sequence[tuple[str, Any]]) -> Sweep:
    """What `plan` takes, that some machine could run: a sweep file, or a recipe or profile as a sweep of one trial.

    Raises `UserError` as `load_sweep` does, and for a `profile` beside a recipe.
    """
    if not is_recipe(path):
        return load_sweep(path, profile, overrides, check=True, elsewhere=True)
    if profile is not None:
        raise UserError(f"{path} is a recipe or profile, which says itself what it starts from; leave out --profile")
    return single_run(str(path), overrides, check=True, elsewhere=True)


def single_run(
    recipe_or_profile: str,
    overrides: Sequence[tuple[str, Any]] = (),
    check: bool = False,
    elsewhere: bool = False,
) -> Sweep:
    """A sweep of one trial, from a profile or a recipe file; `check` and `elsewhere` as of `load_sweep`."""
    document = recipe_document(recipe_or_profile)
    source = _with_settings(f"recipe {recipe_or_profile}", overrides)
    changes = dict(document.value)
    if problems := section_problems(changes, (), document):
        raise UserError.from_problems(f"{source} is not valid:", problems)
    values = _base_values(None, changes.pop("profile", "micro"), document, source)
    origins = _change(values, changes, file_origins(document), overrides, source)
    recipe = build_recipe(values, source=source, origins=origins)
    if check:
        check_recipes([(recipe, origins)], source, RECIPE_CHECKS if elsewhere else CHECKS)
    _pin_judge(values, recipe)
    name = f"{Path(recipe_or_profile).stem}-{recipe.objective.name}"
    trial = Trial(recipe.objective.name, {}, recipe)
    return Sweep(name, recipe.profile, DEFAULT_RULE, values, (trial,), source=recipe_or_profile)


def _base_values(option: str | None, name: str, document: YamlDocument, source: str) -> dict[str, Any]:
    """The values of the profile that `--profile` or else the file names."""
    try:
        return profile_values(option or name)
    except UserError as error:
        place = "--profile" if option else f"{source}: line {document.line(('profile',))}"
        raise UserError(f"{place}: {error}") from None


def _with_settings(source: str, overrides: Sequence[tuple[str, Any]]) -> str:
    """`source`, and what `--set` changes of it, for the heading of an error."""
    return f"{source} with {' '.join(map(set_text, overrides))}" if overrides else source


def _change(
    values: dict[str, Any],
    changes: Mapping[str, Any],
    origins: Origins,
    overrides: Sequence[tuple[str, Any]],
    source: str,
) -> Origins:
    """Apply a file's changes, then `--set`, to `values` in place; returns where all settings were written."""
    problems = apply_all(values, changes, origins)
    more, origins = apply_overrides(values, overrides, origins)
    problems += more
    if problems:
        raise UserError.from_problems(f"{source} is not valid:", problems)
    return origins


def _check_metric(rule: SelectionRule, recipe: Recipe) -> None:
    """Raise `UserError` if the rule's metric is none that the recipe's benchmarks report."""
    valid = [f"{name}/{metric}" for name in recipe.benchmarks.names() for metric in BENCHMARKS.get(name).metrics]
    metric = rule.metric
    if metric is not None and metric not in valid and metric not in {name.split("/")[1] for name in valid}:
        raise UserError(f"select: no benchmark of this sweep reports {metric!r}; {suggest(metric, valid)}")


def _pin_judge(values: dict[str, Any], recipe: Recipe) -> None:
    """Write the judge's model into the values, which may come from the environment, so that it is saved with them."""
    judge = recipe.benchmarks.judge
    if judge is not None:
        given = values["benchmarks"].get("judge") or {}
        values["benchmarks"] = values["benchmarks"] | {"judge": {"model": judge.model, **given}}
