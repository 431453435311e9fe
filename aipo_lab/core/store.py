"""The content-addressed store of artifacts: keys, manifests, atomic publishing. The only place that knows paths.

Layout under the root: `<stage>/<key>/` holds a published artifact with its `manifest.json`;
`<stage>/.work-<key>/` is the folder of one being made, whose `parts/` survive a kill so that a long
stage continues; `locks/` and `logs/` hold one file per key, `judge-calls/` the replies of judges.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import read_json, write_json

MANIFEST = "manifest.json"
KEY_HEX_DIGITS = 24


def artifact_key(
    stage: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    plugins: Mapping[str, Any] | None = None,
) -> str:
    """The key of an artifact: a hash of what determines its content, and of nothing else."""
    identity = {"stage": stage, "version": version, "config": config, "inputs": inputs}
    if plugins:
        identity["plugins"] = plugins
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_HEX_DIGITS]


@dataclass(frozen=True)
class ArtifactRequest:
    """What an artifact is made from; `key` follows from the other fields.

    `inputs` maps the names a stage knows its inputs by to references `<stage>/<key>`, `plugins` kinds of plug-ins
    that the stage uses to their identity.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    plugins: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The artifact's key in the store."""
        return artifact_key(self.stage, self.version, self.config, self.inputs, self.plugins)


@dataclass(frozen=True)
class Artifact:
    """A published, immutable folder and its manifest."""

    stage: str
    key: str
    path: Path
    manifest: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """The path of one of the artifact's files or folders; it must be there."""
        path = self.path / name
        assert path.exists(), f"artifact {self.stage}/{self.key} has no {name}"
        return path

    @property
    def summary(self) -> dict[str, Any]:
        """What the stage reported about itself: counts, durations, totals."""
        return dict(self.manifest["summary"])

    @property
    def duration_s(self) -> float:
        """Seconds of work in the process that published it."""
        return float(self.manifest["duration_s"])


class Store:
    """Artifacts under one root folder, shared by sweeps and by processes."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def prepare(self) -> None:
        """Create the root; raises `UserError` if it cannot be written to."""
        make_writable_folder(self.root, "store", "--store")

    def path(self, stage: str, key: str) -> Path:
        """Where the artifact is, or will be once it is published."""
        return self.root / stage / key

    def log_path(self, stage: str, key: str) -> Path:
        """The log of whoever last made this artifact."""
        return self.root / "logs" / f"{stage}-{key}.log"

    @property
    def judge_calls(self) -> Path:
        """Where judges keep their replies."""
        return self.root / "judge-calls"

    def find(self, stage: str, key: str) -> Artifact | None:
        """The published artifact, or None."""
        path = self.path(stage, key)
        manifest = path / MANIFEST
        return Artifact(stage, key, path, read_json(manifest)) if manifest.is_file() else None

    def contains(self, stage: str, key: str) -> bool:
        """Whether the artifact is published."""
        return (self.path(stage, key) / MANIFEST).is_file()

    def get(self, stage: str, key: str) -> Artifact:
        """The published artifact, which must exist."""
        artifact = self.find(stage, key)
        assert artifact is not None, f"artifact {stage}/{key} is not in the store {self.root}"
        return artifact

    def make(
        self,
        request: ArtifactRequest,
        build: Callable[[Path], Mapping[str, Any]],
        on_wait: Callable[[], None] = lambda: None,
    ) -> Artifact:
        """The artifact of `request`, built by `build(folder) -> summary` unless it is there already.

        Holds the key's lock meanwhile: of several processes one builds and the others wait. The lock is
        the operating system's, so a killed owner holds nothing.
        """
        from filelock import FileLock, Timeout

        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{request.stage}-{request.key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire()
        try:
            return self.find(request.stage, request.key) or self._build(request, build)
        finally:
            lock.release()

    def _build(self, request: ArtifactRequest, build: Callable[[Path], Mapping[str, Any]]) -> Artifact:
        folder = self.root / request.stage / f".work-{request.key}"
        _clear_except_parts(folder)
        started = time.monotonic()
        summary = build(folder)
        duration_s = time.monotonic() - started
        shutil.rmtree(parts_folder(folder), ignore_errors=True)
        _publish(folder, self.path(request.stage, request.key), request, summary, duration_s)
        return self.get(request.stage, request.key)


def make_writable_folder(path: Path, what: str, option: str) -> None:
    """Create a folder and try to write to it; raises `UserError` naming the `option` that chooses another."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to the {what} {path}: {error.strerror}; choose another with {option}") from None


def parts_folder(folder: Path) -> Path:
    """Where a stage building in `folder` commits parts that a later attempt may continue from."""
    return folder / "parts"


def _clear_except_parts(folder: Path) -> None:
    parts_folder(folder).mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry != parts_folder(folder):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _publish(
    folder: Path, target: Path, request: ArtifactRequest, summary: Mapping[str, Any], duration_s: float
) -> None:
    """Flush every file, write the manifest last and rename the folder into place."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for path in files:
        _fsync(path)
    manifest = {
        "stage": request.stage,
        "version": request.version,
        "key": request.key,
        "config": dict(request.config),
        "inputs": dict(request.inputs),
        "plugins": dict(request.plugins),
        "summary": dict(summary),
        "files": {
            str(path.relative_to(folder)): {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        },
        "duration_s": round(duration_s, 3),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "versions": package_versions(),
    }
    write_json(folder / MANIFEST, manifest)
    _fsync(folder)
    if target.exists():  # without its manifest it is not an artifact, only debris of a damaged store
        shutil.rmtree(target)
    os.replace(folder, target)
    _fsync(target.parent)


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change results."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("aipo-lab", "torch", "transformers", "tokenizers", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
