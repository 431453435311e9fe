"""What can become of a part of a stage while its stage is not running."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(b"\n") + 1 + (len(content) - content.index(b"\n")) // 2
    content[place] ^= 1
    path.write_bytes(content)


def drop_the_last_row(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def as_older_versions_wrote_it(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def of_other_inputs(path: Path) -> None:
    head, body = path.read_bytes().split(b"\n", 1)
    path.write_bytes(json.dumps(json.loads(head) | {"made_from": "0" * 64}).encode() + b"\n" + body)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn in its first line": lambda path: os.truncate(path, 10),
    "torn": lambda path: os.truncate(path, path.stat().st_size - 5),
    "without its last row": drop_the_last_row,
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00{"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "JSON of another kind": lambda path: path.write_bytes(b"[]\n"),
    "JSON without end": lambda path: path.write_bytes(b"[" * 100_000),
    "another byte": change_a_byte,
    "of other inputs": of_other_inputs,
    "of an older version": as_older_versions_wrote_it,
    "a folder": replace_by_folder,
}
