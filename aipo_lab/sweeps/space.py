"""The search space of a sweep file: entries are grids, their points trials; what is wrong with one, by line."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from aipo_lab.core.config import suggest
from aipo_lab.core.overrides import given_twice, leaves_of
from aipo_lab.core.yaml_text import YamlDocument
from aipo_lab.objectives import get_definition, objective_names
from aipo_lab.sweeps.trial import is_recipe_key, overrides_of


def grid(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All combinations of an entry's lists, the last key varying fastest."""
    values = [value if isinstance(value, list) else [value] for value in entry.values()]
    return [dict(zip(entry, combination, strict=True)) for combination in itertools.product(*values)]


def entry_place(number: int, document: YamlDocument) -> str:
    """What to call entry `number`, counted from 0, in a message: `line 4: space entry 1`."""
    line = document.line(("space", number))
    return f"{f'line {line}: ' if line else ''}space entry {number + 1}"


def space_problems(
    space: Sequence[Mapping[str, Any]], overrides: Sequence[tuple[str, Any]], document: YamlDocument
) -> list[str]:
    """Every problem of the space itself; `overrides` are what `--set` gives."""
    problems = []
    for number, entry in enumerate(space):
        found = [*_objective_problems(entry), *_overlaps(entry, overrides)]
        problems += [f"{entry_place(number, document)}: {problem}" for problem in found]
    return problems


def _objective_problems(entry: Mapping[str, Any]) -> list[str]:
    name = entry.get("objective")
    if name is None:
        return [f"required key 'objective' is missing; valid: {', '.join(objective_names())}"]
    if not isinstance(name, str) or name not in objective_names():
        return [f"unknown objective {name!r}; {suggest(str(name), objective_names())}"]
    valid = [one.rstrip("_") for one in get_definition(name).hyperparameters]
    problems = []
    for key, values in entry.items():
        if key != "objective" and not is_recipe_key(key) and key not in valid:
            problems.append(
                f"unknown key {key!r} for {name}; {suggest(key, valid)}, or a recipe key such as seed or "
                f"train.learning_rate{_dotted_hint(key, values)}"
            )
        if isinstance(values, list) and not values:
            problems.append(f"{key}: the grid is empty; give at least one value")
    return problems


def _dotted_hint(key: str, values: Any) -> str:
    """How to write what was given as a section, which a space cannot tell from a value."""
    if not isinstance(values, Mapping) or not values:
        return ""
    return f" (write settings of a section dotted: {', '.join(f'{key}.{inner}' for inner in values)})"


def _overlaps(entry: Mapping[str, Any], overrides: Sequence[tuple[str, Any]]) -> list[str]:
    """Settings that the entry gives twice under different names, or that `--set` gives as well."""
    swept = {key: tuple(dotted.split(".")) for key, (dotted, _) in zip(entry, overrides_of(entry), strict=True)}
    problems = [
        f"{key} is set by --set and swept here; drop one of the two"
        for key, value in overrides
        if any(_overlap(leaf, path) for leaf in leaves_of(tuple(key.split(".")), value) for path in swept.values())
    ]
    pairs = itertools.combinations(swept, 2)
    return problems + [
        f"{one} and {other} set the same, {'.'.join(max(swept[one], swept[other]))}; keep one"
        for one, other in pairs
        if _overlap(swept[one], swept[other])
    ]


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one of two settings is the other, or a part of it."""
    n = min(len(one), len(other))
    return one[:n] == other[:n]


def section_problems(changes: Mapping[str, Any], below: str, document: YamlDocument) -> list[str]:
    """Settings that a section of dotted and nested keys gives twice."""
    problems = []
    for setting, first, second in given_twice(changes):
        lines = [document.line((below, key) if below else (key,)) for key in (first, second)]
        where = " and ".join(f"{key!r} on line {line}" for key, line in zip((first, second), lines, strict=True))
        problems.append(f"line {max(filter(None, lines), default=0)}: {setting} is given twice, by {where}; keep one")
    return problems
