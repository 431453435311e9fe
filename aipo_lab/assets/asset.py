"""What an asset is, and the checks of the files it is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of

Progress = Callable[[str], None]
"""Called with a short sentence whenever a step of a fetch starts."""


@dataclass(frozen=True)
class PinnedFile:
    """One file: its path inside the asset's folder (with `/`), where it is served, and the SHA-256 it must have."""

    name: str
    url: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A folder of data files that aipo-lab knows how to obtain.

    `build(folder, progress)` fills an empty folder and returns what it knows of the origin (source, hashes,
    versions): JSON values only, and no times, so that two fetches from one source are equal byte for byte.
    It raises `UserError` for what the user can mend and `MissingDependency` for a package that is not there.
    `files`: the pinned files it is made of, for an asset that is nothing else and can be added from a folder.
    """

    name: str
    description: str
    licence: str
    size_bytes: int
    source: str
    build: Callable[[Path, Progress], dict[str, Any]]
    files: tuple[PinnedFile, ...] = ()


def origin_of(files: Sequence[PinnedFile]) -> dict[str, Any]:
    """What `Asset.build` says of an asset made of pinned files, wherever they were taken from."""
    return {"files": {file.name: {"url": file.url, "sha256": file.sha256} for file in files}}


def git_blob_id_of(path: Path) -> str:
    """Git's name for the content of a file: what a model hub publishes for files outside LFS."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def require_hash(path: Path, expected: str, *, actual: str | None = None) -> str:
    """Return `expected` if `path` has that SHA-256 (or if `actual`, computed otherwise, equals it).

    Raises `UserError` naming both hashes: a file that differs is never used.
    """
    found = sha256_of(path) if actual is None else actual
    if found != expected:
        raise UserError(
            f"{path.name} is not the file that was pinned: hash {found}, expected {expected}. "
            "Nothing was installed. Fetch again; if that does not help, the source serves another file."
        )
    return expected
