"""Parts that a long stage commits on its way, so that a killed one continues: rows of JSON, read back only if whole.

A part's first line says what it was made from and hashes the lines after it. One that is torn, overwritten, not
readable or of other inputs is dropped with a warning: making it again costs time, and using it would change the result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aipo_lab.core.jsonl import write_bytes_atomically

logger = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


class _Damaged(ValueError):
    """The part cannot be used; the message says why."""


def part_rows(path: Path, made_from: Any, make: Callable[[], Iterable[Mapping[str, Any]]]) -> Rows:
    """The rows of the part at `path`, made and committed if they are not there.

    `made_from`: JSON values that determine the rows, as far as they are not what the folder of parts stands for. Rows
    come back as the file has them, whether they were made just now or not.
    """
    found = read_part(path, made_from)
    if found is None:
        write_part(path, made_from, make())
        found = read_part(path, made_from)
        assert found is not None, f"{path} is not what was written a moment ago"
    return found


def write_part(path: Path, made_from: Any, rows: Iterable[Mapping[str, Any]]) -> None:
    """Commit a part; NaN and infinities raise `ValueError`."""
    body = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    head = json.dumps({"made_from": _digest(made_from), "sha256": hashlib.sha256(body).hexdigest()})
    write_bytes_atomically(path, head.encode() + b"\n" + body)


def read_part(path: Path, made_from: Any) -> Rows | None:
    """The rows of a part, or None without one; a damaged one, or one of other inputs, is removed with a warning."""
    try:
        return _checked(path, made_from)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise  # not damage: what may be read tomorrow is not made again
    except (OSError, _Damaged) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        logger.warning("the part %s is dropped and made again: %s", path, reason)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return None


def _checked(path: Path, made_from: Any) -> Rows:
    head, _, body = path.read_bytes().partition(b"\n")
    try:
        stated = json.loads(head)
        sources, sha256 = stated["made_from"], stated["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _Damaged("its first line does not say what it holds (torn, or of an older version)") from None
    if sha256 != hashlib.sha256(body).hexdigest():
        raise _Damaged("its content is not what was written (torn or overwritten)")
    if sources != _digest(made_from):
        raise _Damaged("it was made from other inputs")
    return [json.loads(line) for line in body.splitlines()]


def _digest(made_from: Any) -> str:
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
