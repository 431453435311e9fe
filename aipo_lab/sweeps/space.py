"""The search space of a sweep file: entries are grids, their points trials; what is wrong with one, by line."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aipo_lab.core.config import suggest
from aipo_lab.core.overrides import given_twice, leaves_of
from aipo_lab.core.yaml_text import KeyPath, YamlDocument
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
    space: Sequence[Mapping[str, Any]],
    overrides: Sequence[tuple[str, Any]],
    document: YamlDocument,
    methods: Collection[str] = (),
) -> list[str]:
    """Every problem of the space itself; `overrides`: what `--set` gives, `methods`: names an entry may choose."""
    problems = []
    for number, entry in enumerate(space):
        own = _method_problems(entry, methods) if "method" in entry else _objective_problems(entry)
        found = [*own, *_empty_grids(entry), *_overlaps(entry, overrides)]
        problems += [f"{entry_place(number, document)}: {problem}" for problem in found]
    return problems


def _objective_problems(entry: Mapping[str, Any]) -> list[str]:
    name = entry.get("objective")
    if name is None:
        return [
            f"required key 'objective' is missing; valid: {', '.join(objective_names())}; or give 'method', one of the "
            "file's `methods`"
        ]
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
    return problems


def _method_problems(entry: Mapping[str, Any], methods: Collection[str]) -> list[str]:
    given = entry["method"]
    names = given if isinstance(given, list) else [given]
    if not methods:
        return [f"method {given!r}: the file defines no methods; say what they are in the section `methods`"]
    valid = [*methods, "all"]
    problems = [f"unknown method {name!r}; {suggest(str(name), valid)}" for name in names if name not in methods]
    if "objective" in entry:
        problems.append("objective: a method says it itself; drop one of the two")
    for key, values in entry.items():
        if key not in ("method", "objective") and not is_recipe_key(key):
            problems.append(
                f"unknown key {key!r} beside method; give recipe keys such as seed, objective.beta or "
                f"train.learning_rate{_dotted_hint(key, values)}"
            )
    return problems


def _empty_grids(entry: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: the grid is empty; give at least one value"
        for key, values in entry.items()
        if isinstance(values, list) and not values
    ]


def _dotted_hint(key: str, values: Any) -> str:
    """How to write what was given as a section, which a space cannot tell from a value."""
    if not isinstance(values, Mapping) or not values:
        return ""
    return f" (write settings of a section dotted: {', '.join(f'{key}.{inner}' for inner in values)})"


def _overlaps(entry: Mapping[str, Any], overrides: Sequence[tuple[str, Any]]) -> list[str]:
    """Settings that the entry gives twice under different names, or that `--set` gives as well."""
    keys = [key for key in entry if key != "method"]
    swept = {key: tuple(dotted.split(".")) for key, (dotted, _) in zip(keys, overrides_of(entry), strict=True)}
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


def section_problems(changes: Mapping[str, Any], below: KeyPath, document: YamlDocument) -> list[str]:
    """Settings that a section of dotted and nested keys gives twice."""
    problems = []
    for setting, first, second in given_twice(changes):
        lines = [document.line((*below, key)) for key in (first, second)]
        where = " and ".join(f"{key!r} on line {line}" for key, line in zip((first, second), lines, strict=True))
        problems.append(f"line {max(filter(None, lines), default=0)}: {setting} is given twice, by {where}; keep one")
    return problems
