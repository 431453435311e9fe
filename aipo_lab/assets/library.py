"""Data files obtained once per machine: their registry, where they live, and fetching them atomically.

Fetched assets live in `$AIPO_LAB_CACHE/assets/NAME` (`~/.cache/aipo-lab/assets/NAME` by default). A folder
counts as present only when its `asset.json`, written last, names every file with its size. To add an asset,
write a module with an `Asset` and list it in `_ASSETS`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.assets.alpaca_eval import ALPACA_EVAL
from aipo_lab.assets.arena_hard import ARENA_HARD, CL100K_BASE
from aipo_lab.assets.asset import Asset, Progress
from aipo_lab.assets.instruction_following import IFBENCH, IFEVAL, NLTK_DATA
from aipo_lab.assets.minilm import MINILM
from aipo_lab.assets.mt_bench import MT_BENCH
from aipo_lab.assets.smollm2 import SMOLLM2_135M
from aipo_lab.core.durability import flush_tree, rename_into_place, share_by_umask
from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.core.locks import exclusive_lock

MANIFEST = "asset.json"

_ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (SMOLLM2_135M, MINILM, ALPACA_EVAL, ARENA_HARD, CL100K_BASE, MT_BENCH, IFEVAL, IFBENCH, NLTK_DATA)
}


@dataclass(frozen=True, kw_only=True)
class AssetInfo:
    """One row of `aipo-lab assets list`; `size_bytes` is measured when present, else the usual size."""

    name: str
    description: str
    licence: str
    size_bytes: int
    source: str
    present: bool
    path: Path


def assets_home() -> Path:
    """The folder that holds one folder per fetched asset."""
    cache = os.environ.get("AIPO_LAB_CACHE")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache" / "aipo-lab") / "assets"


def list_assets() -> list[AssetInfo]:
    """Every known asset, present or not."""
    return [_info(asset) for asset in _ASSETS.values()]


def find(name: str) -> Path:
    """The folder of a fetched asset.

    Raises `UserError` for an unknown name and, with the command that obtains it, for an absent asset.
    """
    info = _info(_get(name))
    if info.present:
        return info.path
    damaged = " (the folder is there, but not as it was fetched)" if info.path.exists() else ""
    raise UserError(f"the asset {name!r} is not at {info.path}{damaged}; obtain it with: aipo-lab assets fetch {name}")


def file_hashes(name: str) -> dict[str, str]:
    """SHA-256 of every file of a fetched asset by name, as its manifest states them; empty for an absent asset."""
    files = _manifest_files(assets_home() / _get(name).name)
    return {file: str(entry["sha256"]) for file, entry in files.items()}


def fetch(name: str, progress: Progress = lambda _: None) -> Path:
    """Obtain an asset unless it is present and whole; returns its folder.

    The folder appears in one step, complete; a fetch that fails or is killed leaves the old state. Raises
    `UserError` (unknown name, unreachable source, wrong hash, unwritable folder) and `MissingDependency`.
    """
    return obtain(_get(name), progress)


def known(name: str) -> Asset:
    """The asset called `name`; raises `UserError` for an unknown name."""
    return _get(name)


def obtain(asset: Asset, progress: Progress) -> Path:
    """See `fetch`, for an asset that may be built otherwise than the registered one."""
    name, home = asset.name, assets_home()
    with ExitStack() as held:
        try:
            home.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive_lock(home / f".{name}.lock"))
        except OSError as error:
            raise UserError(
                f"cannot write to {home} ({error.strerror}); set AIPO_LAB_CACHE to a folder you can write to"
            ) from error
        if _is_whole(home / name):
            progress(f"{name} is already at {home / name}")
        else:
            _build_and_publish(asset, home, progress)
    return home / name


def _get(name: str) -> Asset:
    if name not in _ASSETS:
        raise UserError(f"unknown asset {name!r}; choose one of {', '.join(sorted(_ASSETS))}")
    return _ASSETS[name]


def _info(asset: Asset) -> AssetInfo:
    path = assets_home() / asset.name
    files = _manifest_files(path)
    return AssetInfo(
        name=asset.name,
        description=asset.description,
        licence=asset.licence,
        size_bytes=sum(file["size_bytes"] for file in files.values()) if files else asset.size_bytes,
        source=asset.source,
        present=bool(files),
        path=path,
    )


def _manifest_files(folder: Path) -> dict[str, Any]:
    """The files the manifest names; empty when there is no manifest or a size differs."""
    if not (folder / MANIFEST).is_file():
        return {}
    files: dict[str, Any] = read_json(folder / MANIFEST)["files"]
    sizes_fit = all(
        (folder / file).is_file() and (folder / file).stat().st_size == entry["size_bytes"]
        for file, entry in files.items()
    )
    return files if sizes_fit else {}


def _is_whole(folder: Path) -> bool:
    files = _manifest_files(folder)
    return bool(files) and all(sha256_of(folder / file) == entry["sha256"] for file, entry in files.items())


def _build_and_publish(asset: Asset, home: Path, progress: Progress) -> None:
    for leftover in home.glob(f".{asset.name}.partial-*"):  # of killed fetches: we hold the lock
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=f".{asset.name}.partial-", dir=home) as temporary:
        content = Path(temporary) / "content"
        content.mkdir()
        origin = asset.build(content, progress)
        _seal(asset, content, origin)
        if (home / asset.name).exists():
            (home / asset.name).rename(Path(temporary) / "damaged")
        rename_into_place(content, home / asset.name)


def _seal(asset: Asset, folder: Path, origin: dict[str, Any]) -> None:
    """Write the manifest that makes the folder count as present, and flush everything to disk."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        entry = {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        files[path.relative_to(folder).as_posix()] = entry
    assert files, f"the build of {asset.name} made no file"
    write_json(folder / MANIFEST, {"name": asset.name, "licence": asset.licence, "origin": origin, "files": files})
    share_by_umask(folder)
    flush_tree(folder)
