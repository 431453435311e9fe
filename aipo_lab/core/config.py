"""Strict configuration: pydantic models that refuse unknown keys, and errors that report all problems at once."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins
from aipo_lab.core.overrides import apply_override, merge, parse_override
from aipo_lab.core.paths import is_there
from aipo_lab.core.yaml_text import YamlDocument, YamlError, decode, load_yaml, parse_yaml

__all__ = [
    "StrictModel",
    "apply_override",
    "merge",
    "parse_override",
    "parse_yaml",
    "read_yaml",
    "read_yaml_document",
    "suggest",
    "validate",
]


class StrictModel(BaseModel):
    """A configuration section: frozen, finite numbers only, unknown keys refused, yes and no are no numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), populate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _truth_values_are_no_numbers(cls, values: Any) -> Any:
        """YAML reads `yes`, `no`, `on` and `off` as truth values, which pydantic would take for 1 and 0."""
        if not isinstance(values, dict):
            return values
        wrong = {
            key: _marked(value) for key, value in values.items() if _holds_truth(value) and not _allows_truth(cls, key)
        }
        return {**values, **wrong} if wrong else values


class _TruthValue:
    """Stands for a truth value where none belongs; no field accepts it."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"{self.value}: YAML reads yes, no, on, off, true and false as truth values"


def _holds_truth(value: object) -> bool:
    return value is True or value is False or (type(value) is list and any(map(_holds_truth, value)))


def _marked(value: Any) -> Any:
    if isinstance(value, list):
        return [_marked(one) for one in value]
    return _TruthValue(value) if isinstance(value, bool) else value


@cache
def _allows_truth(model: type[BaseModel], key: str) -> bool:
    """Whether the field called `key` may hold a truth value; an unknown one is somebody else's error."""
    annotations = [field.annotation for name, field in model.model_fields.items() if key in (name, field.alias)]
    return not annotations or any(map(_takes_truth, annotations))


def _takes_truth(annotation: Any) -> bool:
    return annotation in (bool, Any, object) or any(_takes_truth(part) for part in get_args(annotation))


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], values: Mapping[str, Any], source: str, origins: Origins | None = None) -> Model:
    """Build `model` from `values`; raises one `UserError` naming every problem and its place in `source`.

    `origins` say where the values were written, for the error.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        blame = (origins or Origins()).blame
        problems = dict.fromkeys(blame(_location(detail), _describe(model, detail)) for detail in error.errors())
        raise UserError.from_problems(f"{source} is not valid:", problems) from None


def read_yaml_document(path: Path, what: str) -> YamlDocument:
    """Read a YAML mapping with its lines.

    Raises `UserError` naming `what` and every problem if it is missing, broken or not a mapping.
    """
    if not is_there(path) or not path.is_file():
        raise UserError(f"{what} not found: {path.absolute()} is not a file; check the path")
    try:
        document = load_yaml(decode(path.read_bytes()))
    except OSError as error:
        raise UserError(f"{what} {path.absolute()} cannot be read: {error.strerror}") from None
    except YamlError as error:
        raise UserError.from_problems(f"{what} {path} is not valid YAML:", error.problems) from None
    values = document.value
    if values is None:
        raise UserError(f"{what} {path} is empty; it must hold a mapping of keys to values")
    if not isinstance(values, dict):
        raise UserError(f"{what} {path} must hold a mapping of keys to values, not {type(values).__name__}")
    return document


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping of `read_yaml_document`, without its lines."""
    mapping: dict[str, Any] = read_yaml_document(path, what).value
    return mapping


def suggest(name: str, valid: list[str]) -> str:
    """The end of an error message about an unknown `name`: the nearest valid one and the whole list."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}valid: {', '.join(valid)}"


_KIND_TRIED = re.compile(r"function-.*|float|int|str|bool|(list|dict|tuple|literal)\[.*\]")


def _location(detail: Any) -> list[Any]:
    """The keys that lead to a problem, without pydantic's own marks for the kinds of value that it tried."""
    return [part for part in detail["loc"] if not _KIND_TRIED.fullmatch(str(part))]


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
    if detail["type"] == "string_type" and isinstance(given, int | float | _TruthValue):
        message += "; put it in quotes"
    hidden = detail["type"] == "chosen" or isinstance(given, dict | BaseModel)
    shown = "" if hidden else f" (got {_shortened(repr(given))})"
    return f"{message}{shown}" if location else message


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


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
