"""The text and the JSON of official files, whatever wrote them: byte order marks, UTF-16, CRLF, halves of emoji.

One reader for all benchmarks. What can be read in one way only is read; anything else is an error with its line.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.unicode import repaired_json

_BYTE_ORDER_MARKS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_NOT_TEXT = (
    (b"\x1f\x8b", "it is compressed (gzip): unpack it first, e.g. with gunzip"),
    (b"PK\x03\x04", "it is a zip archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed (zstd): unpack it first, e.g. with unzstd"),
    (b"\xfd7zXZ", "it is compressed (xz): unpack it first, e.g. with unxz"),
    (b"PAR1", "it is a Parquet file: convert it to JSON first"),
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself: obtain it with git lfs pull"),
)
_LINE_END = re.compile(r"\r\n|\n|\r")
"""JSON's only line ends: U+2028 and the like may stand inside a text."""
_SHOWN_CHARS = 60


def official_text(path: Path, what: str) -> str:
    """The file's text without byte order mark. Raises `UserError` if there is none, saying that `what` was expected."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {what} from {path}: {error.strerror}; check the path") from None
    for start, reason in _NOT_TEXT:
        if raw.startswith(start):
            raise UserError(f"cannot read {what} from {path}: {reason}")
    mark, encoding = next((pair for pair in _BYTE_ORDER_MARKS if raw.startswith(pair[0])), (b"", ""))
    body = raw[len(mark) :]
    encoding = encoding or (
        json.detect_encoding(body) if body[:1] in (b"{", b"[") or body[1:2] in (b"{", b"[") else "utf-8"
    )
    try:
        return body.decode(encoding, "surrogatepass")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(body[: error.start].decode(encoding, "replace"))) + 1
        raise UserError(
            f"cannot read {what} from {path}: line {line}: the byte 0x{body[error.start]:02x} is not "
            f"{encoding.upper()}; the file is in another encoding or damaged: convert it to UTF-8, or obtain it again"
        ) from None


def json_lines(text: str) -> list[tuple[int, str]]:
    """The lines that hold anything, with their numbers."""
    lines = ((number, line.strip(" \t\ufeff")) for number, line in enumerate(_LINE_END.split(text), 1))
    return [(number, line) for number, line in lines if line]


def json_value(text: str) -> Any:
    """The JSON value, its texts fit for UTF-8; a row with one key twice must say the same both times.

    Raises `ValueError` with the reason.
    """
    if "\0" in text:
        raise ValueError("it holds NUL bytes: part of the file was never written, as after a power cut")
    try:
        return repaired_json(json.loads(text.lstrip("\ufeff"), object_pairs_hook=_object))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        for key, value in pairs:
            if row[key] != value:
                first, last = (f"{one!r}"[:_SHOWN_CHARS] for one in (value, row[key]))
                raise ValueError(f"the key {key!r} stands there twice, with {first} and {last}")
    return row
