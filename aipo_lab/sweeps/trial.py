"""Trials: points of a search space. A trial is what its recipe says; its name is for people, readable and unique."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.numbers import value_text
from aipo_lab.core.origins import Origins
from aipo_lab.core.overrides import set_text
from aipo_lab.pipeline.recipe import Recipe, build_recipe

PLAIN_RECIPE_KEYS = ("seed", "iterations", "reference", "ema_decay", "data", "start")
"""Recipe keys without a section that a space may sweep."""

HYPERPARAMETERS = ("beta", "alpha", "gamma", "lambda", "label_smoothing")
ABBREVIATIONS = {"beta": "b", "alpha": "a", "gamma": "g", "lambda": "l", "label_smoothing": "e"}
MAX_NAME_LENGTH = 120
"""Characters of a trial's name: it must fit a file name and a column."""


@dataclass(frozen=True)
class Method:
    """A fragment of a recipe: dotted keys with values in the order they apply, and where they were written."""

    changes: Mapping[str, Any]
    origins: Origins = field(default_factory=Origins)

    def with_overrides(self, overrides: Sequence[tuple[str, Any]]) -> Method:
        """The fragment with what `--set` gives applied after it."""
        given = dict(overrides)
        kept = {key: value for key, value in self.changes.items() if key not in given}
        origins = self.origins
        for override in overrides:
            origins = origins.with_place(tuple(override[0].split(".")), set_text(override))
        return Method(kept | given, origins)


NO_METHODS: Mapping[str, Method] = MappingProxyType({})


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
        objective = self.recipe.objective
        different = self.recipe.iterations if objective.schedules() else 1
        settings = [objective.at(t).hyperparameters for t in range(different)]
        shown = {"method": str(self.settings["method"])} if "method" in self.settings else {}
        for name in objective.definition.hyperparameters:
            values = [one[name] for one in settings]
            yaml_name = name.rstrip("_")
            if yaml_name != "label_smoothing" or any(values):
                shown[yaml_name] = value_text(values[0] if len(set(values)) == 1 else values)
        varied = {key: value for key, value in self.settings.items() if is_recipe_key(key)}
        return shown | {key: value_text(value) for key, value in varied.items()}

    def content(self) -> str:
        """What the trial is: its resolved recipe, every iteration's objective with all hyperparameters.

        Equal contents are the same trial, however their settings were written (a left-out default, `1` for `1.0`,
        a schedule that stays the same).
        """
        recipe = self.recipe
        scheduled = bool(recipe.objective.schedules())
        objectives = [
            recipe.objective.at(t).model_dump(exclude_none=True) for t in range(recipe.iterations if scheduled else 1)
        ]
        same = all(one == objectives[0] for one in objectives)
        values = recipe.resolved() | {"objective": objectives[:1] if same else objectives}
        return json.dumps(values, sort_keys=True)


def build_trials(
    base: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]],
    source: str,
    origins: Origins | None = None,
    places: Sequence[str] | None = None,
    methods: Mapping[str, Method] = NO_METHODS,
) -> tuple[Trial, ...]:
    """One trial per point; problems of all of them are reported together, each once.

    `origins` say where `base` was written and `places` where each point was, for errors. A point may name one of
    `methods`, which changes `base` before the point does.
    """
    places = places or [f"trial {number}" for number in range(1, len(points) + 1)]
    common = _common_settings(points)
    trials: list[Trial] = []
    problems: dict[str, None] = {}
    for point, place in zip(points, places, strict=True):
        written = point_origins(origins or Origins(), point, place, methods)
        try:
            changes = [*_method_changes(point, methods), *overrides_of(point)]
            name = trial_name(point, common)
            recipe = build_recipe(base, changes, f"trial {name}", written)
            trials.append(Trial(name, point, recipe))
        except UserError as error:
            problems |= dict.fromkeys(error.problems or [f"{place}: {error}"])
    if problems:
        raise UserError.from_problems(f"{source} is not valid:", problems)
    if repeated := _repeated(trials, places):
        raise UserError.from_problems(f"{source} is not valid:", repeated)
    return _with_unique_names(trials)


def _common_settings(points: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Recipe keys that each of several points sets, and to the same value: they tell none from another."""
    if len(points) < 2:
        return frozenset()
    return frozenset(
        key
        for key, value in points[0].items()
        if is_recipe_key(key) and all(key in one and value_text(one[key]) == value_text(value) for one in points)
    )


def _method_changes(point: Mapping[str, Any], methods: Mapping[str, Method]) -> list[tuple[str, Any]]:
    """What the method of a point changes; nothing for a point without one."""
    return list(methods[point["method"]].changes.items()) if "method" in point else []


def point_origins(
    origins: Origins, point: Mapping[str, Any], place: str, methods: Mapping[str, Method] = NO_METHODS
) -> Origins:
    """Where a trial's settings were written: its point's at `place`, others where its method or else `origins` say."""
    if "method" in point:
        for path, where in methods[point["method"]].origins.places.items():
            origins = origins.with_place(path, where)
    for dotted, _ in overrides_of(point):
        origins = origins.with_place(tuple(dotted.split(".")), place)
    return origins


def _repeated(trials: Sequence[Trial], places: Sequence[str]) -> list[str]:
    """Trials that the space holds more than once: their results would be one and their rows two."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, trial in enumerate(trials):
        alike[trial.content()].append(number)
    return [
        f"the space holds {trials[numbers[-1]].name} more than once: "
        + " and ".join(f"{places[n]} ({_written(trials[n].settings)})" for n in numbers)
        + " are the same trial, with every default filled in; remove the repetition"
        for numbers in alike.values()
        if len(numbers) > 1
    ]


def _written(point: Mapping[str, Any]) -> str:
    """A point as the file gives it: `1` and `1.0` are the same trial, but not the same text."""
    return ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in point.items())


def _with_unique_names(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials, names that would look alike told apart by a digest of what the trial is.

    Alike is what some file system takes for the same: capitals, and composed and decomposed letters.
    """
    groups: dict[str, int] = defaultdict(int)
    for trial in trials:
        groups[_look(trial.name)] += 1
    return tuple(
        trial if groups[_look(trial.name)] == 1 else Trial(_digested(trial), trial.settings, trial.recipe)
        for trial in trials
    )


def _look(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _digested(trial: Trial) -> str:
    return f"{trial.name}-{_digest(trial.content())}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def trial_name(point: Mapping[str, Any], common: Collection[str] = ()) -> str:
    """A readable name: `aipo-b0.1-a0.05-l0.2`, with swept recipe keys in full; a method's is `sdpo-seed=1`.

    Settings that are `common` to all trials are left out.
    """
    parts = [str(point["method"] if "method" in point else point["objective"])]
    for key, value in point.items():
        if key not in ("objective", "method", *common):
            short = ABBREVIATIONS.get(key, f"{_clean(key)}=")
            parts.append(short + "_".join(_name_part(one) for one in (value if isinstance(value, list) else [value])))
    name = "-".join(parts)
    if len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{name[: MAX_NAME_LENGTH - 9]}-{_digest(name)}"


def _name_part(value: Any) -> str:
    if isinstance(value, Mapping):
        return "_".join(f"{_clean(str(key))}={_name_part(one)}" for key, one in value.items()) or "empty"
    return _clean(value_text(value))


def _clean(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-+" else "_" for letter in text)


def is_recipe_key(key: str) -> bool:
    """Whether a key of a space is one of the recipe's, not a hyperparameter of the entry's objective."""
    return "." in key or key in PLAIN_RECIPE_KEYS


def overrides_of(point: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A point as dotted recipe keys."""
    dotted = {"objective": "objective.name"} | {name: f"objective.{name}" for name in HYPERPARAMETERS}
    return [(dotted.get(key, key), value) for key, value in point.items() if key != "method"]
