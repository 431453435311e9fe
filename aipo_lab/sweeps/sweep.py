"""Sweeps: a profile and a search space become trials, each with its own recipe."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.catalogue import BENCHMARKS
from aipo_lab.core.config import StrictModel, apply_override, read_yaml, suggest, validate
from aipo_lab.core.errors import UserError
from aipo_lab.objectives import get_definition, objective_names
from aipo_lab.pipeline.recipe import Recipe, build_recipe, profile_names, profile_values, recipe_values
from aipo_lab.results.selection import SelectionRule, parse_rule

PLAIN_RECIPE_KEYS = ("seed", "iterations")
"""Recipe keys without a section that a space may sweep."""

HYPERPARAMETERS = ("beta", "alpha", "gamma", "lambda", "label_smoothing")
ABBREVIATIONS = {"beta": "b", "alpha": "a", "gamma": "g", "lambda": "l", "label_smoothing": "e"}


class SweepSpec(StrictModel):
    """A sweep file."""

    name: str = Field(
        pattern=r"^[\w.-]+$", description="name of the sweep and of its output folder: letters, digits, . _ -"
    )
    profile: str = Field("micro", description="profile every trial starts from")
    description: str = Field("", description="what the sweep is for")
    recipe: dict[str, Any] = Field(
        default_factory=dict, description="changes to the profile for all trials: dotted keys and values"
    )
    space: list[dict[str, Any]] = Field(
        min_length=1,
        description="grids: each entry an objective and lists of values for its hyperparameters or recipe keys",
    )
    select: str = Field("top_left", description="rule that picks the best trial")


@dataclass(frozen=True)
class Trial:
    """One point of the search space: its name, what it sets, and the recipe that follows."""

    name: str
    settings: Mapping[str, Any]
    recipe: Recipe

    @property
    def objective(self) -> str:
        """The trial's objective."""
        return self.recipe.objective.name

    def hyperparameters(self) -> dict[str, str]:
        """What distinguishes the trial, as text by YAML name: its objective's hyperparameters in full, and
        the recipe keys the sweep varies."""
        settings = [self.recipe.objective.at(t).hyperparameters for t in range(self.recipe.iterations)]
        shown = {}
        for name in self.recipe.objective.definition.hyperparameters:
            values = [f"{one[name]:g}" for one in settings]
            yaml_name = name.rstrip("_")
            if yaml_name != "label_smoothing" or any(one[name] for one in settings):
                shown[yaml_name] = values[0] if len(set(values)) == 1 else f"[{', '.join(values)}]"
        varied = {key: value for key, value in self.settings.items() if _is_recipe_key(key)}
        return shown | {key: f"{value:g}" if _is_float(value) else str(value) for key, value in varied.items()}


@dataclass(frozen=True)
class Sweep:
    """A sweep with all its trials, ready to run."""

    name: str
    profile: str
    select: str
    base_values: Mapping[str, Any]
    trials: tuple[Trial, ...]
    description: str = ""
    source: str = field(default="", compare=False)


def load_sweep(path: Path, profile: str | None = None, overrides: Sequence[tuple[str, Any]] = ()) -> Sweep:
    """The sweep of a file, with `--profile` and `--set` applied.

    Raises `UserError` with every problem of the file or of any trial's recipe.
    """
    if str(path) in profile_names():
        raise UserError(f"{path} is a profile, not a sweep file; run one trial of it with: aipo-lab run {path}")
    spec = validate(SweepSpec, read_yaml(path, "sweep file"), f"sweep file {path}")
    rule = parse_rule(spec.select)
    base = profile_values(profile or spec.profile)
    changes = [*spec.recipe.items(), *overrides]
    for dotted, value in changes:
        apply_override(base, dotted, value)
    _check_space(spec, [dotted for dotted, _ in overrides], path)
    points = [point for entry in spec.space for point in _grid(entry)]
    trials = build_trials(base, points, f"sweep file {path}")
    _check_metric(rule, trials[0].recipe)
    _pin_judge(base, trials[0].recipe)
    return Sweep(
        name=spec.name if profile in (None, spec.profile) else f"{spec.name}-{profile}",
        profile=str(base["profile"]),
        select=spec.select,
        base_values=base,
        trials=trials,
        description=spec.description,
        source=str(path),
    )


def single_run(recipe_or_profile: str, overrides: Sequence[tuple[str, Any]] = ()) -> Sweep:
    """A sweep of one trial, from a profile or a recipe file."""
    values = recipe_values(recipe_or_profile)
    for dotted, value in overrides:
        apply_override(values, dotted, value)
    recipe = build_recipe(values, source=f"recipe {recipe_or_profile}")
    _pin_judge(values, recipe)
    name = f"{Path(recipe_or_profile).stem}-{recipe.objective.name}"
    trial = Trial(recipe.objective.name, {}, recipe)
    return Sweep(name, recipe.profile, "top_left", values, (trial,), source=recipe_or_profile)


def build_trials(base: Mapping[str, Any], points: Sequence[Mapping[str, Any]], source: str) -> tuple[Trial, ...]:
    """One trial per point; problems of all of them are reported together, each once."""
    trials: list[Trial] = []
    problems: dict[str, None] = {}
    for point in points:
        name = trial_name(point)
        try:
            trials.append(Trial(name, point, build_recipe(base, _overrides(point), f"trial {name}")))
        except UserError as error:
            problems |= dict.fromkeys(line.removeprefix("  - ") for line in str(error).splitlines()[1:])
    if problems:
        raise UserError.from_problems(f"{source} is not valid:", problems)
    repeated = [name for name, count in Counter(trial.name for trial in trials).items() if count > 1]
    if repeated:
        raise UserError(f"{source}: the space holds {', '.join(repeated)} more than once; remove the repetition")
    return tuple(trials)


def trial_name(point: Mapping[str, Any]) -> str:
    """A readable, unique name: `aipo-b0.1-a0.05-l0.2`, with swept recipe keys in full."""
    parts = [str(point["objective"])]
    for key, value in point.items():
        if key != "objective":
            short = ABBREVIATIONS.get(key, f"{key}=")
            parts.append(short + "_".join(_value_text(one) for one in (value if isinstance(value, list) else [value])))
    return "-".join(parts)


def _is_recipe_key(key: str) -> bool:
    return "." in key or key in PLAIN_RECIPE_KEYS


def _value_text(value: Any) -> str:
    text = f"{value:g}" if _is_float(value) else str(value)
    return "".join(letter if letter.isalnum() or letter in ".-+" else "_" for letter in text)


def _is_float(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _overrides(point: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A point as dotted recipe keys."""
    dotted = {"objective": "objective.name"} | {name: f"objective.{name}" for name in HYPERPARAMETERS}
    return [(dotted.get(key, key), value) for key, value in point.items()]


def _grid(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All combinations of an entry's lists, the last key varying fastest."""
    values = [value if isinstance(value, list) else [value] for value in entry.values()]
    return [dict(zip(entry, combination, strict=True)) for combination in itertools.product(*values)]


def _check_space(spec: SweepSpec, overridden: Sequence[str], path: Path) -> None:
    """Raise one `UserError` with every problem of the space itself."""
    problems = []
    for number, entry in enumerate(spec.space, start=1):
        place = f"space entry {number}"
        name = entry.get("objective")
        if name is None:
            problems.append(f"{place}: required key 'objective' is missing; valid: {', '.join(objective_names())}")
        elif name not in objective_names():
            problems.append(f"{place}: unknown objective {name!r}; {suggest(str(name), objective_names())}")
        else:
            problems += [f"{place}: {problem}" for problem in _entry_problems(entry)]
        swept = {dotted for dotted, _ in _overrides(entry)}
        problems += [
            f"{place}: {key} is set by --set and swept here; drop one of the two" for key in overridden if key in swept
        ]
    if problems:
        raise UserError.from_problems(f"sweep file {path} is not valid:", problems)


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


def _entry_problems(entry: Mapping[str, Any]) -> list[str]:
    valid = [name.rstrip("_") for name in get_definition(entry["objective"]).hyperparameters]
    problems = []
    for key, values in entry.items():
        if key != "objective" and not _is_recipe_key(key) and key not in valid:
            problems.append(
                f"unknown key {key!r} for {entry['objective']}; {suggest(key, valid)}, "
                "or a recipe key such as seed or train.learning_rate"
            )
        if isinstance(values, list) and not values:
            problems.append(f"{key}: the grid is empty; give at least one value")
        if key == "objective" and not isinstance(values, str):
            problems.append(f"objective: one name per entry, not {values!r}")
    return problems
