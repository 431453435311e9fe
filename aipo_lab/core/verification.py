"""Checks every artifact of a store against its manifest, contents included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aipo_lab.core.locks import exclusive_lock
from aipo_lab.core.manifest import MANIFEST, DamagedManifest, read_manifest, wrong_contents
from aipo_lab.core.store import Store, artifact_key

NO_STAGES = frozenset({"locks", "logs", "judge-calls"})
"""Folders of a store that hold no artifacts."""


@dataclass(frozen=True)
class Verified:
    """One artifact `<stage>/<key>`; `problems` by file are empty for an intact one."""

    reference: str
    size_bytes: int
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredFolder:
    """An artifact's folder, and the bytes that its files have."""

    stage: str
    key: str
    path: Path
    size_bytes: int


def stored_folders(store: Store) -> list[StoredFolder]:
    """All artifacts, whole or not; not what is being made and not what was set aside."""
    return [
        StoredFolder(stage.name, path.name, path, _size_bytes(path))
        for stage in sorted(store.root.iterdir())
        if stage.is_dir() and stage.name not in NO_STAGES and not stage.name.startswith(".")
        for path in sorted(stage.iterdir())
        if not path.name.startswith(".")
    ]


def verify(folders: list[StoredFolder]) -> Iterator[Verified]:
    """Check one artifact after the other; every byte is read."""
    for one in folders:
        yield Verified(f"{one.stage}/{one.key}", one.size_bytes, _problems(one))


def set_aside(store: Store, reference: str) -> Path | None:
    """Move a damaged artifact away, so that the next run that needs it makes it again; returns where it is now.

    None if another process did so, or made it again, in the meantime.
    """
    stage, key = reference.split("/")
    with store.errors(), exclusive_lock(store.lock_path(stage, key)):
        return None if store.find_intact(stage, key) else store.set_aside(stage, key)


def _problems(folder: StoredFolder) -> dict[str, str]:
    try:
        manifest = read_manifest(folder.path, folder.stage, folder.key)
    except DamagedManifest as error:
        return {MANIFEST: str(error)}
    if manifest is None:
        return {MANIFEST: "is missing"}
    return _wrong_key(folder, manifest) | wrong_contents(folder.path, manifest)


def _wrong_key(folder: StoredFolder, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The key is a hash of what the manifest says the artifact was made from."""
    stage, version, config, inputs = (manifest[name] for name in ("stage", "version", "config", "inputs"))
    key = artifact_key(stage, version, config, inputs, manifest.get("plugins"))  # of older versions: none
    return {} if key == folder.key else {MANIFEST: f"says what has the key {key}"}


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
