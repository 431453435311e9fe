"""Strict configuration: pydantic models that refuse unknown keys, and errors that report all problems at once."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aipo_lab.core.errors import UserError


class StrictModel(BaseModel):
    """A configuration section: frozen, finite numbers only, unknown keys refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), populate_by_name=True
    )


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Build `model` from `values`; raises one `UserError` naming every problem and its place in `source`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe(model, detail) for detail in error.errors()]
        raise UserError.from_problems(f"{source} is not valid:", problems) from None


class _Loader(yaml.SafeLoader):
    """The safe loader, which also takes `3e-4` for the number everybody means by it (YAML 1.1 does not)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML document, safely; raises `yaml.YAMLError`."""
    return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML mapping; raises `UserError` naming `what` if it is missing, broken or not a mapping."""
    if not path.is_file():
        raise UserError(f"{what} not found: {path} is not a file; check the path (now in {Path.cwd()})")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{what} {path} is not valid YAML: {error}") from None
    if values is None:
        raise UserError(f"{what} {path} is empty; it must hold a mapping of keys to values")
    if not isinstance(values, dict):
        raise UserError(f"{what} {path} must hold a mapping of keys to values, not {type(values).__name__}")
    return values


def suggest(name: str, valid: list[str]) -> str:
    """The end of an error message about an unknown `name`: the nearest valid one and the whole list."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}valid: {', '.join(valid)}"


def _describe(model: type[BaseModel], detail: Any) -> str:
    place = ".".join(map(str, _location(detail)))
    text = problem_text(model, detail)
    return f"{place}: {text}" if place else text


def problem_text(model: type[BaseModel], detail: Any) -> str:
    """One of the problems pydantic found in `model`, in our words and without its place."""
    location = _location(detail)
    if detail["type"] == "extra_forbidden":
        section = _model_at(model, location[:-1])
        valid = sorted(_key_names(section)) if section else []
        return f"unknown key {str(location[-1])!r}; {suggest(str(location[-1]), valid)}"
    if detail["type"] == "missing":
        return "required, but not given"
    message = str(detail["msg"]).removeprefix("Value error, ")
    given = detail.get("input")
    shown = "" if detail["type"] == "chosen" or isinstance(given, dict | BaseModel) else f" (got {given!r})"
    return f"{message}{shown}" if location else message


def _location(detail: Any) -> list[Any]:
    return [part for part in detail["loc"] if not str(part).startswith("function-")]


def _key_names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], location: list[Any]) -> type[BaseModel] | None:
    """The model class found by walking `location` (keys as the user wrote them) from `model`."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            return None
        fields = {field.alias or name: field for name, field in current.model_fields.items()}
        if part in fields:
            current = _model_in(fields[part].annotation)
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, Annotated, dict, list, tuple):
        return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
    return None


def apply_override(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `values["a"]["b"] = value` for the dotted key `a.b`, in place.

    Raises `UserError` when the path runs through something that is not a section.
    """
    *sections, last = dotted.split(".")
    current = values
    for section in sections:
        if not isinstance(current.setdefault(section, {}), dict):
            raise UserError(f"cannot set {dotted}: {section} is a value, not a section")
        current = current[section]
    if isinstance(current.get(last), dict) and not isinstance(value, dict):
        keys = ", ".join(f"{dotted}.{key}" for key in current[last])
        raise UserError(f"cannot set {dotted} to {value!r}: it is a section; set one of {keys}")
    if sections and _names_another(sections[-1], current, {last: value}):
        current.clear()
    current.update(merge({last: current[last]}, {last: value}) if last in current else {last: value})


CHOOSING_KEYS = {"rank": ("ranker", "proxy"), "engine": ("name", "transformers"), "prompts": ("source", "world")}
"""By section: the key that chooses one of several things, whose settings the other keys are, and its default."""


def parse_override(text: str) -> tuple[str, Any]:
    """Parse `a.b=value` of `--set`; the value is YAML (`1`, `0.5`, `[1, 2]`, `text`)."""
    dotted, separator, value = text.partition("=")
    if not separator or not dotted.strip() or "" in dotted.strip().split("."):
        raise UserError(f"--set {text!r} is not of the form section.key=value, e.g. --set train.batch_size=32")
    try:
        return dotted.strip(), parse_yaml(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text!r}: the value is not valid YAML: {error}") from None


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


def _names_another(section: str, before: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    """Whether a change to a section chooses something else than the section does."""
    key, default = CHOOSING_KEYS.get(section, ("", ""))
    return key in change and change[key] != before.get(key, default)
