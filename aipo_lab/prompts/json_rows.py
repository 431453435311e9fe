"""Rows of JSON lines and of JSON arrays, as they are written.

`datasets` could read these too, but where a column changes its type late in a file it puts the texts of that part into
quotes and says nothing; here every row is read on its own. Lines are streamed; an array is read as a whole.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from aipo_lab.core.errors import UserError

OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file; raises `UserError` naming the line that is no object in JSON and UTF-8."""
    with OPENERS.get(path.suffix.lower(), open)(path, "rb") as stream:
        start = stream.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
    yield from _array(path) if start.startswith(b"[") else _lines(path)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _object(json.loads(line), f"{path}, line {number}")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8 after line {number} ({error.reason}); convert it to UTF-8") from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}, line {number} is not valid JSON: {error}; repair or remove that line") from None


def _array(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with _open(path) as stream:
            values = json.load(stream)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON in UTF-8: {error}; repair it, or give one object a line") from None
    for number, value in enumerate(values, start=1):
        yield _object(value, f"{path}, entry {number}")


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"{place} holds {type(value).__name__}, not an object whose keys are the columns; "
            'write, for example, {"prompt": "…"}'
        )
    return value


def _open(path: Path) -> TextIO:
    """As text; only a line feed ends a line, as other ends may stand inside JSON's texts."""
    opener = OPENERS.get(path.suffix.lower(), open)
    stream: TextIO = opener(path, "rt", encoding="utf-8-sig", newline="\n")
    return stream
