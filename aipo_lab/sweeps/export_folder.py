"""The folder of an export: it appears in one step, whole, and takes the place of nothing that it should not.

Every export has a card, README.md, whose header lists the export's files: so a later one tells it from other folders.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from aipo_lab.core.durability import flush_tree, rename_into_place, share_by_umask
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_text_atomically
from aipo_lab.core.storage_errors import storage_errors
from aipo_lab.core.yaml_text import dump_yaml, parse_yaml

CARD = "README.md"
HEADER_KEY = "aipo_lab"
SHOWN_ENTRIES = 3


@contextmanager
def new_folder(target: Path, force: bool, sources: Sequence[Path]) -> Iterator[Path]:
    """A folder to fill, which becomes `target` when the block ends without an error; else nothing is left of it.

    With `force` an earlier export at `target` is replaced, and any other folder there is moved aside, not deleted.
    `sources`: folders that are read from. Raises `UserError` before the block if `target` cannot be written to, is not
    empty without `force`, or if it holds, or lies in, one of `sources` or the folder the command runs in.
    """
    target = Path(os.path.realpath(target))
    _check_free(target, force, sources)
    temporary = target.with_name(f".{target.name}.partial-{os.getpid()}")
    with storage_errors(target.parent, "folder", "another DIR"):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            share_by_umask(temporary)
            flush_tree(temporary)
            _check_free(target, force, sources)  # again: another process may have been faster
            _publish(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_free(target: Path, force: bool, sources: Sequence[Path]) -> None:
    if os.path.lexists(target) and not target.is_dir():
        raise UserError(f"{target} is a file; an export is a folder: choose another DIR")
    for source in (one.resolve() for one in sources):
        if source.is_relative_to(target) or target.is_relative_to(source):
            raise UserError(f"{target} holds, or lies in, {source}, which the export reads; choose another DIR")
    if Path.cwd().is_relative_to(target):
        raise UserError(f"{target} is, or holds, the folder that this command runs in; choose another DIR")
    entries = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if entries and not force:
        more = ", …" if len(entries) > SHOWN_ENTRIES else ""
        raise UserError(
            f"{target} is not empty ({', '.join(entries[:SHOWN_ENTRIES])}{more}); choose another DIR, or replace it "
            "with --force"
        )


def _publish(temporary: Path, target: Path) -> None:
    """Put the filled folder in place. What is there leaves first, by a rename: at no moment is it half replaced."""
    if not target.is_dir() or not any(target.iterdir()):
        rename_into_place(temporary, target)
        return
    own, number = _is_export(target), 1
    while os.path.lexists(aside := target.with_name(f"{target.name}.replaced-{number}")):
        number += 1
    rename_into_place(target, aside)
    rename_into_place(temporary, target)
    if own:
        shutil.rmtree(aside)


def _is_export(folder: Path) -> bool:
    """Whether a folder holds an export and nothing besides."""
    try:
        text = (folder / CARD).read_text(encoding="utf-8")
        header = parse_yaml(text.split("---\n", 2)[1])
        files = {CARD, *header[HEADER_KEY]["files"]}
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return False
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} <= files


def write_card(folder: Path, header: Mapping[str, Any], about: Mapping[str, Any], body: str) -> None:
    """Write README.md: a YAML header for the hub, with what the export is `about` and its files, then `body`."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    head = dump_yaml({**header, HEADER_KEY: {**about, "files": files}})
    write_text_atomically(folder / CARD, f"---\n{head}---\n\n{body.rstrip()}\n")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
