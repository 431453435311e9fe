"""The content-addressed store of artifacts: keys, look-ups, atomic publishing. The only place that knows paths.

Layout under the root: `<stage>/<key>/` holds a published artifact with its `manifest.json`;
`<stage>/.work-<key>/` is the folder of one being made, whose `parts/` survive a kill so that a long
stage continues; `<stage>/.damaged-<key>-<n>/` is one that was damaged and set aside; `locks/` and `logs/` hold one file
per key, `judge-calls/` the replies of judges.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from aipo_lab.core.durability import flush_tree, make_folders, rename_into_place, share_by_umask
from aipo_lab.core.errors import InputLost, UserError
from aipo_lab.core.jsonl import write_json
from aipo_lab.core.locks import exclusive_lock
from aipo_lab.core.manifest import (
    MANIFEST,
    DamagedManifest,
    Signature,
    new_manifest,
    read_manifest,
    signature_of,
    wrong_contents,
    wrong_sizes,
)
from aipo_lab.core.storage_errors import storage_errors

logger = logging.getLogger(__name__)

KEY_HEX_DIGITS = 24
_KEY_TEXT = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
"""Made once: a plan computes hundreds of thousands of keys."""


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
    text = _KEY_TEXT.encode(identity)
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
    """Artifacts under one root folder, shared by sweeps and by processes.

    A look-up compares the sizes of files with the manifest. What differs is damaged: it is reported once, counts as
    absent, and is set aside when it is made again. Contents are hashed when an artifact is first used in a process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._manifests: dict[Path, tuple[Signature, dict[str, Any]]] = {}
        self._intact: dict[Path, Signature] = {}
        self._corrupt: dict[Path, tuple[Signature, dict[str, str]]] = {}
        self._reported: set[Path] = set()

    def prepare(self) -> None:
        """Create the root; raises `UserError` if it cannot be written to."""
        make_writable_folder(self.root, "store", "--store")

    def path(self, stage: str, key: str) -> Path:
        """Where the artifact is, or will be once it is published."""
        return self.root / stage / key

    def log_path(self, stage: str, key: str) -> Path:
        """The log of whoever last made this artifact."""
        return self.root / "logs" / f"{stage}-{key}.log"

    def lock_path(self, stage: str, key: str) -> Path:
        """The lock that whoever makes the artifact, or sets it aside, holds."""
        return self.root / "locks" / f"{stage}-{key}.lock"

    @property
    def judge_calls(self) -> Path:
        """Where judges keep their replies."""
        return self.root / "judge-calls"

    def errors(self) -> AbstractContextManager[None]:
        """Turns a full disk, missing permission and the like in this store into a `UserError`."""
        return storage_errors(self.root, "store", "--store")

    def find(self, stage: str, key: str) -> Artifact | None:
        """The published artifact, or None; one whose manifest or sizes are wrong is reported and counts as absent."""
        artifact, problems = self._look_up(stage, key)
        if problems:
            self._report(stage, key, problems)
        return None if problems else artifact

    def find_intact(self, stage: str, key: str) -> Artifact | None:
        """As `find`, with the content of every file checked too, once in this process for as long as nobody writes."""
        artifact = self.find(stage, key)
        if artifact is None:
            return None
        signature = signature_of(artifact.path, artifact.manifest)
        if self._intact.get(artifact.path) != signature:
            if problems := wrong_contents(artifact.path, artifact.manifest):
                self._corrupt[artifact.path] = signature, problems
                self._report(stage, key, problems)
                return None
            self._intact[artifact.path] = signature
        return artifact

    def contains(self, stage: str, key: str) -> bool:
        """Whether the artifact is published and, as far as sizes tell, whole."""
        return self.find(stage, key) is not None

    def get(self, stage: str, key: str) -> Artifact:
        """The published artifact, which must exist."""
        artifact = self.find(stage, key)
        assert artifact is not None, f"artifact {stage}/{key} is not in the store {self.root}"
        return artifact

    def take_input(self, reference: str) -> Artifact:
        """The intact artifact `<stage>/<key>`; raises `InputLost` after setting a damaged one aside."""
        stage, key = reference.split("/")
        artifact = self.find_intact(stage, key)
        if artifact is not None:
            return artifact
        with self.errors(), exclusive_lock(self.lock_path(stage, key)):
            artifact = self.find_intact(stage, key)  # another process may have made it again
            if artifact is not None:
                return artifact
            aside = self.set_aside(stage, key)
        raise InputLost(reference, "is not in the store" if aside is None else f"was damaged and is set aside: {aside}")

    def set_aside(self, stage: str, key: str) -> Path | None:
        """Move away whatever lies at the artifact's path; returns where it is now, None if nothing was there.

        The caller holds the key's lock or knows that nobody makes the artifact.
        """
        path = self.path(stage, key)
        if not os.path.lexists(path):
            return None
        number = 1
        while os.path.lexists(aside := self._aside(stage, key, number)):
            number += 1
        rename_into_place(path, aside)
        self._reported.discard(path)
        return aside

    def last_aside(self, stage: str, key: str) -> Path | None:
        """Where what was damaged of this artifact was last moved to; None if nothing was."""
        number = 0
        while os.path.lexists(self._aside(stage, key, number + 1)):
            number += 1
        return self._aside(stage, key, number) if number else None

    def _aside(self, stage: str, key: str, number: int) -> Path:
        return self.root / stage / f".damaged-{key}-{number}"

    def make(
        self,
        request: ArtifactRequest,
        build: Callable[[Path], Mapping[str, Any]],
        on_wait: Callable[[], None] = lambda: None,
        computed_on: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """The artifact of `request`, built by `build(folder) -> summary` unless it is there already and intact.

        `computed_on`: the devices, for the manifest.

        Holds the key's lock meanwhile: of several processes one builds and the others wait (see `locks` for what
        happens when the owner dies). Raises `UserError` where the store cannot be written to.
        """
        with self.errors(), exclusive_lock(self.lock_path(request.stage, request.key), on_wait):
            return self.find_intact(request.stage, request.key) or self._build(request, build, computed_on)

    def _build(
        self,
        request: ArtifactRequest,
        build: Callable[[Path], Mapping[str, Any]],
        computed_on: Mapping[str, Any] | None,
    ) -> Artifact:
        folder = self.root / request.stage / f".work-{request.key}"
        _clear_except_parts(folder)
        started = time.monotonic()
        summary = build(folder)
        duration_s = time.monotonic() - started
        shutil.rmtree(parts_folder(folder), ignore_errors=True)
        identity = {
            "stage": request.stage,
            "version": request.version,
            "key": request.key,
            "config": dict(request.config),
            "inputs": dict(request.inputs),
            "plugins": dict(request.plugins),
        }
        manifest = new_manifest(folder, identity, summary, duration_s, package_versions(), computed_on)
        write_json(folder / MANIFEST, manifest)
        share_by_umask(folder)
        flush_tree(folder)
        if (aside := self.set_aside(request.stage, request.key)) is not None:
            logger.warning("what lay at %s/%s is set aside: %s", request.stage, request.key, aside)
        rename_into_place(folder, self.path(request.stage, request.key))
        artifact = self.get(request.stage, request.key)
        self._intact[artifact.path] = signature_of(artifact.path, artifact.manifest)  # its hashes are a moment old
        return artifact

    def _look_up(self, stage: str, key: str) -> tuple[Artifact | None, dict[str, str]]:
        """The artifact and what is wrong with it, by file; neither if there is none."""
        path = self.path(stage, key)
        try:
            manifest = self._manifest(path, stage, key)
        except DamagedManifest as error:
            return None, {MANIFEST: str(error)}
        if manifest is None:
            return None, {}
        return Artifact(stage, key, path, manifest), wrong_sizes(path, manifest) or self._known_corrupt(path, manifest)

    def _manifest(self, path: Path, stage: str, key: str) -> dict[str, Any] | None:
        """The manifest, read again only when its file changes."""
        try:
            signature = signature_of(path, {"files": ()})
        except FileNotFoundError:
            return None
        except OSError:
            return read_manifest(path, stage, key)  # says what is wrong
        known = self._manifests.get(path)
        if known is not None and known[0] == signature:
            return known[1]
        manifest = read_manifest(path, stage, key)
        if manifest is not None:
            self._manifests[path] = (signature, manifest)
        return manifest

    def _known_corrupt(self, path: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
        """What an earlier look at the contents found wrong, unless somebody wrote since."""
        signature, problems = self._corrupt.get(path, ((), {}))
        return problems if problems and signature == signature_of(path, manifest) else {}

    def _report(self, stage: str, key: str, problems: Mapping[str, str]) -> None:
        """Warn once about a damaged artifact."""
        path = self.path(stage, key)
        if path not in self._reported:
            self._reported.add(path)
            said = "; ".join(f"{name} {problem}" for name, problem in list(problems.items())[:3])
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            logger.warning("the artifact %s is damaged and counts as absent: %s%s", path, said, more)


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
    make_folders(parts_folder(folder))
    for entry in folder.iterdir():
        if entry != parts_folder(folder):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


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
