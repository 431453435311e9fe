"""Values as text: integers in full, floats as short as reads back the same, so that two values never look alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number_text(value: float) -> str:
    """The shortest decimal text that reads back as `value`: `1` for 1.0, `1e-05`, `20240101`, `0.1234567`."""
    if isinstance(value, int):
        return str(value)
    short, exact = f"{value:g}", repr(value).removesuffix(".0")
    return short if float(short) == value and len(short) <= len(exact) else exact


def value_text(value: Any) -> str:
    """A setting's value as YAML would show it in one line: `[0.1, 0.2]`, `{rank: 4}`, `null`, `true`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return str(value)
