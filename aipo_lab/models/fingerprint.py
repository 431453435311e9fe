"""Content hashes of model folders, remembered so that tens of gigabytes are read once and not at every command."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aipo_lab.assets.library import assets_home
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import read_json, write_json

HASHED_SUFFIXES = (".json", ".safetensors", ".jinja", ".model")
REMEMBERED_FILE_BYTES = 1 << 24
"""Files from this size on are remembered by path, size and time of change."""


def fingerprint_folder(folder: Path) -> str:
    """A hash of the names and whole contents of a model folder's files, wherever the folder lies."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in HASHED_SUFFIXES):
        digest.update(f"{path.name}/{_file_hash(path.resolve())}/".encode())
    return digest.hexdigest()[:32]


def _file_hash(path: Path) -> str:
    status = path.stat()
    if status.st_size < REMEMBERED_FILE_BYTES:
        return sha256_of(path)
    known_file = assets_home().parent / "fingerprints.json"
    known: dict[str, str] = read_json(known_file) if known_file.is_file() else {}
    name = f"{path}:{status.st_size}:{status.st_mtime_ns}"
    if name not in known:
        known[name] = sha256_of(path)
        known_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(known_file, known)
    return known[name]
