"""JSON and JSON-lines files, written atomically so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aipo_lab.core.durability import rename_into_place


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` beside `path`, flush it to disk and rename it into place; a failure leaves the old content.

    Halves of surrogate pairs, which UTF-8 has no place for, are written as JSON's escapes for them.
    """
    write_bytes_atomically(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes_atomically(path: str | Path, content: bytes) -> None:
    """As `write_text_atomically`, for bytes."""
    folder, name = os.path.split(path)
    temporary = f"{folder or '.'}/.{name}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        with open(temporary, "wb") as stream:  # noqa: PTH123 - twice as fast, for thousands of judge replies
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        rename_into_place(temporary, path)
    except BaseException:
        with suppress(OSError):  # the error that is raised says more
            os.unlink(temporary)  # noqa: PTH108 - as above
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON. NaN and infinities raise `ValueError`."""
    write_text_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line. NaN and infinities raise `ValueError`."""
    write_text_atomically(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read every line of a JSON-lines file."""
    return list(iterate_jsonl(path))


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file one by one."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)
