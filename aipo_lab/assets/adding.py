"""An asset taken from official files that are already on disk, recognised by their hashes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aipo_lab.assets.asset import Asset, PinnedFile, Progress, origin_of
from aipo_lab.assets.library import known, obtain
from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of

MOST_BYTES = 100_000_000
"""Larger files below the folder are not looked at: no asset of pinned files has one."""


def add(name: str, folder: Path, progress: Progress = lambda _: None) -> Path:
    """Register the asset `name` from files below `folder`; returns the asset's folder.

    Files may lie and be called as they like: what counts is the hash. Raises `UserError`, naming every file that is
    missing, and for an asset that is not made of pinned files alone.
    """
    asset = known(name)
    if not asset.files:
        raise UserError(f"{name} is not made of official files alone; obtain it with: aipo-lab assets fetch {name}")

    def build(target: Path, progress: Progress) -> dict[str, Any]:
        return _copied(asset, folder, target, progress)

    return obtain(replace(asset, build=build), progress)


def _copied(asset: Asset, folder: Path, target: Path, progress: Progress) -> dict[str, Any]:
    progress(f"looking for {len(asset.files)} files in {folder}")
    found = _by_hash(asset.files, folder)
    missing = [file for file in asset.files if file.sha256 not in found]
    if missing:
        raise UserError.from_problems(
            f"{folder} does not hold {asset.name}'s official files:",
            [f"no file has the hash of {file.name} (SHA-256 {file.sha256}), served at {file.url}" for file in missing],
        )
    for file in asset.files:
        (target / file.name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found[file.sha256], target / file.name)
    return origin_of(asset.files)


def _by_hash(files: Sequence[PinnedFile], folder: Path) -> dict[str, Path]:
    wanted = {file.sha256 for file in files}
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size <= MOST_BYTES and (hashed := sha256_of(path)) in wanted:
            found.setdefault(hashed, path)
    return found
