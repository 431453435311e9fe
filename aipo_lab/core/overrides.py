"""Changes to configuration values by dotted keys: `--set a.b=value`, and sections of files."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins
from aipo_lab.core.yaml_text import YamlError, parse_yaml


class Override(tuple[str, Any]):
    """A dotted key and its value; `text` is what was typed after `--set`."""

    text: str

    def __new__(cls, key: str, value: Any, text: str) -> Override:
        """The pair, with its text."""
        made = super().__new__(cls, (key, value))
        made.text = text
        return made


def parse_override(text: str) -> Override:
    """Parse `a.b=value` of `--set`; the value is YAML (`1`, `0.5`, `[1, 2]`, `text`)."""
    dotted, separator, value = text.partition("=")
    if not separator or not dotted.strip() or "" in dotted.strip().split("."):
        raise UserError(f"--set {text!r} is not of the form section.key=value, e.g. --set train.batch_size=32")
    try:
        return Override(dotted.strip(), parse_yaml(value), text)
    except YamlError as error:
        reasons = "; ".join(problem.partition(": ")[2] for problem in error.problems)
        raise UserError(f"--set {text!r}: the value is not valid YAML: {reasons}") from None


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """All that `--set` gave; raises one `UserError` for all that are not of its form."""
    parsed, problems = [], []
    for text in texts:
        try:
            parsed.append(parse_override(text))
        except UserError as error:
            problems.append(str(error))
    if len(problems) > 1:
        raise UserError.from_problems("settings are not valid:", problems)
    if problems:
        raise UserError(problems[0])
    return parsed


def set_text(override: tuple[str, Any]) -> str:
    """What to call an override in a message: `--set 'train.batch_size=32'`."""
    return f"--set {override.text!r}" if isinstance(override, Override) else f"--set {'='.join(map(str, override))!r}"


def apply_override(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `values["a"]["b"] = value` for the dotted key `a.b`, in place.

    None takes a section out. Raises `UserError` when the path runs through something that is not a section.
    """
    *sections, last = dotted.split(".")
    current, value = values, copy.deepcopy(value)  # later changes go into sections in place
    for section in sections:
        if not isinstance(current.setdefault(section, {}), dict):
            raise UserError(f"cannot set {dotted}: {section} is a value, not a section")
        current = current[section]
    if isinstance(current.get(last), dict) and not isinstance(value, dict) and value is not None:
        keys = ", ".join(f"{dotted}.{key}" for key in current[last])
        raise UserError(f"cannot set {dotted} to {value!r}: it is a section; set one of {keys}")
    if sections and _names_another(sections[-1], current, {last: value}):
        current.clear()
    current.update(merge({last: current[last]}, {last: value}) if last in current else {last: value})


def apply_all(values: dict[str, Any], changes: Mapping[str, Any], origins: Origins) -> list[str]:
    """Apply every change in place; returns what was wrong, each problem with where the change was written."""
    problems = []
    for dotted, value in changes.items():
        try:
            apply_override(values, dotted, value)
        except UserError as error:
            problems.append(origins.blame(tuple(dotted.split(".")), str(error)))
    return problems


def apply_overrides(
    values: dict[str, Any], overrides: Sequence[tuple[str, Any]], origins: Origins
) -> tuple[list[str], Origins]:
    """Apply what `--set` gave, in place; returns what was wrong, and where every setting is written now."""
    problems = []
    for override in overrides:
        dotted, value = override
        path = tuple(dotted.split("."))
        problems += apply_all(values, {dotted: value}, Origins({path: set_text(override)}))
        origins = origins.with_place(path, set_text(override))
    return problems, origins


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` with the sections of `changes` merged into it, key by key.

    A section that chooses something else than before (`CHOOSING_KEYS`) replaces the one before it.
    """
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = dict(value) if _names_another(key, merged[key], value) else merge(merged[key], value)
        else:
            merged[key] = value
    return merged


CHOOSING_KEYS = {"rank": ("ranker", "proxy"), "engine": ("name", "transformers"), "prompts": ("source", "world")}
"""By section: the key that chooses one of several things, whose settings the other keys are, and its default."""


def _names_another(section: str, before: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    """Whether a change to a section chooses something else than the section does."""
    key, default = CHOOSING_KEYS.get(section, ("", ""))
    return key in change and change[key] != before.get(key, default)


def given_twice(changes: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Settings that `changes` gives both dotted and nested: the setting, and the two keys that give it.

    `{train: {lora: …}, train.lora.rank: 8}` counts: one of the two would be lost.
    """
    leaves = [(path, key) for key, value in changes.items() for path in leaves_of(tuple(key.split(".")), value)]
    by_path: dict[tuple[str, ...], str] = {}
    found = {}
    for path, key in sorted(leaves, key=lambda leaf: len(leaf[0])):
        for n in range(1, len(path) + 1):
            if path[:n] in by_path and by_path[path[:n]] != key:
                found[by_path[path[:n]], key] = (".".join(path), by_path[path[:n]], key)
        by_path.setdefault(path, key)
    return list(found.values())


def leaves_of(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, ...]]:
    """The paths of the settings that `value`, set at `path`, gives: its own, or those inside a section."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves_of((*path, str(key)), inner)
    else:
        yield path
