"""Text that any file in UTF-8 can hold."""

from __future__ import annotations

import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")


def repaired(text: str) -> str:
    """The text with halves of surrogate pairs joined where they belong together and replaced by U+FFFD elsewhere.

    JSON can hold such halves (a cut emoji); neither UTF-8 nor a request can.
    """
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def repaired_json(value: Any) -> Any:
    """A JSON value with every text in it `repaired`, keys included."""
    if isinstance(value, str):
        return repaired(value)
    if isinstance(value, list):
        return [repaired_json(item) for item in value]
    if isinstance(value, dict):
        return {repaired(key): repaired_json(item) for key, item in value.items()}
    return value
