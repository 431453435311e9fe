"""Content hashes of model folders: whatever decides what the model computes and how it reads text, and nothing else.

Hashes are remembered by path, size and times of change, so that tens of gigabytes are read once and not at every stage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from aipo_lab.assets.library import assets_home
from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import read_json, write_json

COUNTED = (
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "*merges.txt",
    "*vocab.txt",
    "vocab.bpe",
    "bpe.codes",
    "spm.*",
)
"""Configuration, weights, chat templates and the tokenizer in all its formats."""
NOT_COUNTED = (
    "trainer_state.json",
    "training_args*",
    "*_results.json",
    "optimizer*",
    "scheduler*",
    "rng_state*",
    "random_states*",
)
"""What trainers leave beside a model."""
TEMPLATES_FOLDER = "additional_chat_templates"
REMEMBERED_FILE_BYTES = 1 << 24
"""Files from this size on are remembered on disk; all are remembered in the process."""

_HASHES: dict[str, str] = {}


def fingerprint_folder(folder: Path, also: tuple[str, ...] = ()) -> str:
    """A hash of the names and whole contents of a model folder's files, wherever the folder lies.

    `also` names further files that count if they are there. Raises `UserError` for a file that cannot be read.
    """
    more = [folder / name for name in also if (folder / name).is_file()]
    return fingerprint_files(folder, [*counted_files(folder), *more])


def fingerprint_files(folder: Path, paths: Iterable[Path]) -> str:
    """The same of the given files of a folder, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            digest.update(f"{name}/{_file_hash(path.resolve(strict=True))}/".encode())
        except OSError as error:
            raise UserError(
                f"the model folder's file {path} cannot be read ({error.strerror}); it may be a link whose target is "
                "gone: put the file back or fetch the model again"
            ) from None
    return digest.hexdigest()[:32]


def counted_files(folder: Path) -> list[Path]:
    """The files that make the model, by name; links that lead nowhere too."""
    inside = [*folder.iterdir(), *(folder / TEMPLATES_FOLDER).glob("*.jinja")]
    return sorted(path for path in inside if _counts(path.name) and not path.is_dir())


def _counts(name: str) -> bool:
    return _is_one_of(name, COUNTED) and not _is_one_of(name, NOT_COUNTED)


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _file_hash(path: Path) -> str:
    """The file's SHA-256. A write changes the time of change (ctime) even where the other time is set back."""
    status = path.stat()
    name = f"{path}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
    if name not in _HASHES:
        large = status.st_size >= REMEMBERED_FILE_BYTES
        _HASHES[name] = _remembered_hash(path, name) if large else sha256_of(path)
    return _HASHES[name]


def _remembered_hash(path: Path, name: str) -> str:
    known_file = assets_home().parent / "fingerprints.json"
    known = _read_known(known_file)
    if name not in known:
        known[name] = sha256_of(path)
        try:
            known_file.parent.mkdir(parents=True, exist_ok=True)
            write_json(known_file, known)
        except OSError:  # a cache that cannot be written costs time, nothing else
            pass
    return known[name]


def _read_known(path: Path) -> dict[str, str]:
    """The remembered hashes; none where the file is absent or damaged."""
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    hashes = values if isinstance(values, dict) else {}
    return {name: value for name, value in hashes.items() if isinstance(value, str) and len(value) == 64}
