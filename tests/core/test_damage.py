"""What is damaged is found, counts as absent, is set aside with a warning and made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aipo_lab.cli import main
from aipo_lab.core.errors import InputLost
from aipo_lab.core.manifest import DamagedManifest, read_manifest
from aipo_lab.core.store import Artifact, ArtifactRequest, Store
from aipo_lab.core.verification import stored_folders

REQUEST = ArtifactRequest("pair", 3, {"a": 1}, {})
REFERENCE = f"pair/{REQUEST.key}"


def build(folder: Path) -> dict[str, Any]:
    (folder / "rows.jsonl").write_text("row\n")
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(bytes(1000))
    return {"pairs": 1}


@pytest.fixture
def artifact(store: Store) -> Artifact:
    return store.make(REQUEST, build)


def edit_manifest(path: Path, **changes: Any) -> None:
    values = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(values | changes))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


ENTRY = {"size_bytes": 1, "sha256": "0" * 64}
SIZES: dict[str, Callable[[Path], object]] = {
    "torn file": lambda path: os.truncate(path / "model" / "weights.bin", 999),
    "lost file": lambda path: (path / "rows.jsonl").unlink(),
    "lost folder": lambda path: shutil.rmtree(path / "model"),
    "folder for a file": lambda path: replace_by_folder(path / "rows.jsonl"),
    "torn manifest": lambda path: os.truncate(path / "manifest.json", 100),
    "empty manifest": lambda path: os.truncate(path / "manifest.json", 0),
    "manifest of zeros": lambda path: (path / "manifest.json").write_bytes(bytes(500)),
    "manifest of another type": lambda path: (path / "manifest.json").write_text("[]"),
    "number as manifest": lambda path: (path / "manifest.json").write_text("1"),
    "deep manifest": lambda path: (path / "manifest.json").write_text("[" * 100_000),
    "manifest that is no text": lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe{}"),
    "manifest without fields": lambda path: (path / "manifest.json").write_text("{}"),
    "manifest with a wrong type": lambda path: edit_manifest(path, files=[]),
    "manifest with a wrong entry": lambda path: edit_manifest(path, files={"rows.jsonl": 4}),
    "manifest that leads outside": lambda path: edit_manifest(
        path, files={"../x": {"size_bytes": 1, "sha256": "0" * 64}}
    ),
    "duration that is no number": lambda path: edit_manifest(path, duration_s=float("nan")),
    "manifest of another artifact": lambda path: edit_manifest(path, key="0" * 24),
    "folder for the manifest": lambda path: replace_by_folder(path / "manifest.json"),
}
CONTENTS: dict[str, Callable[[Path], object]] = {
    "other bytes": lambda path: (path / "model" / "weights.bin").write_bytes(b"1" * 1000),
    "another file": lambda path: (path / "model" / "generation_config.json").write_text("{}"),
}


@pytest.mark.parametrize("name", SIZES)
def test_damage_seen_at_look_up_counts_as_absent_and_is_made_again(
    store: Store, artifact: Artifact, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    SIZES[name](artifact.path)
    for one in (store, Store(store.root)):
        caplog.clear()
        assert one.find("pair", REQUEST.key) is None
        assert not one.contains("pair", REQUEST.key)
        assert [str(artifact.path) in record.getMessage() for record in caplog.records] == [True], "said once"
    again = store.make(REQUEST, build)
    assert again.manifest["files"] == artifact.manifest["files"]
    assert (store.root / "pair" / f".damaged-{REQUEST.key}-1").is_dir()
    assert any("is set aside" in record.getMessage() for record in caplog.records)
    assert store.take_input(REFERENCE).path == artifact.path
    SIZES[name](artifact.path)
    store.make(REQUEST, build)
    assert (store.root / "pair" / f".damaged-{REQUEST.key}-2").is_dir()


@pytest.mark.parametrize("name", [*SIZES, *CONTENTS])
def test_an_input_is_checked_in_full_and_set_aside(store: Store, artifact: Artifact, name: str) -> None:
    (SIZES | CONTENTS)[name](artifact.path)
    with pytest.raises(InputLost, match="was damaged and is set aside") as caught:
        Store(store.root).take_input(REFERENCE)
    assert caught.value.reference == REFERENCE
    assert not artifact.path.exists()
    assert store.make(REQUEST, build).path == artifact.path
    with pytest.raises(InputLost, match="is not in the store"):
        store.take_input("pair/" + "0" * 24)


def test_contents_are_read_once_in_a_process_until_somebody_writes(
    store: Store, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr("aipo_lab.core.manifest.sha256_of", lambda path: read.append(path) or "")
    fresh = Store(store.root)
    assert store.find_intact("pair", REQUEST.key) is not None, "hashed when it was published"
    assert read == []
    monkeypatch.undo()
    assert fresh.find_intact("pair", REQUEST.key) is not None
    weights = artifact.path / "model" / "weights.bin"
    before = weights.stat()
    weights.write_bytes(b"1" * 1000)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    for one in (store, fresh):
        assert one.find_intact("pair", REQUEST.key) is None
        assert one.find("pair", REQUEST.key) is None, "what was found corrupt stays so"


def test_a_link_of_an_older_store_is_no_damage(store: Store, artifact: Artifact) -> None:
    (artifact.path / "link").symlink_to("nowhere")
    (artifact.path / ".nfs0001").write_text("left by the system")
    assert Store(store.root).find_intact("pair", REQUEST.key) is not None


@pytest.mark.parametrize("name", [*SIZES, *CONTENTS])
def test_verify_names_artifact_file_and_problem(store: Store, artifact: Artifact, name: str) -> None:
    other = store.make(ArtifactRequest("pair", 3, {"a": 2}, {}), build)
    clean = CliRunner().invoke(main, ["store", "verify", "--store", str(store.root)])
    assert (clean.exit_code, "2 artifacts" in clean.output, "all intact" in clean.output) == (0, True, True)
    (SIZES | CONTENTS)[name](artifact.path)
    found = CliRunner().invoke(main, ["store", "verify", "--store", str(store.root)])
    assert found.exit_code == 1
    assert f"damaged {REFERENCE}" in found.output
    assert f"  {artifact.path}/" in found.output
    assert str(other.path) not in found.output
    assert artifact.path.is_dir(), "it only looks"
    moved = CliRunner().invoke(main, ["store", "verify", "--set-aside", "--store", str(store.root)])
    assert (moved.exit_code, f".damaged-{REQUEST.key}-1" in moved.output) == (1, True)
    assert CliRunner().invoke(main, ["store", "verify", "--store", str(store.root)]).exit_code == 0


def test_the_size_of_an_artifact_is_that_of_its_files(store: Store, artifact: Artifact) -> None:
    (artifact.path / "elsewhere").symlink_to(store.root)
    (one,) = stored_folders(store)
    manifest_bytes = (artifact.path / "manifest.json").stat().st_size
    assert one.size_bytes == len("row\n") + 1000 + manifest_bytes


def test_verify_checks_what_the_key_says(store: Store, artifact: Artifact) -> None:
    edit_manifest(artifact.path, config={"a": 5})
    found = CliRunner().invoke(main, ["store", "verify", "--store", str(store.root)])
    assert "manifest.json says what has the key" in found.output


def test_an_artifact_that_plug_ins_made_is_intact(store: Store) -> None:
    made = store.make(ArtifactRequest("pair", 3, {"a": 1}, {}, {"rankers": {"mine": "1.0"}}), build)
    found = CliRunner().invoke(main, ["store", "verify", "--store", str(store.root)])
    assert (found.exit_code, "all intact" in found.output) == (0, True)
    edit_manifest(made.path, plugins={"rankers": {"mine": "2.0"}})
    found = CliRunner().invoke(main, ["store", "verify", "--store", str(store.root)])
    assert (found.exit_code, "says what has the key" in found.output) == (1, True)


def test_verify_without_a_store_says_what_to_give(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["store", "verify", "--store", str(tmp_path / "none")])
    assert (found.exit_code, "--store" in found.output) == (2, True)


def test_a_manifest_says_what_is_wrong_with_it(store: Store, artifact: Artifact) -> None:
    edit_manifest(artifact.path, summary="x")
    with pytest.raises(DamagedManifest, match="has no valid summary"):
        read_manifest(artifact.path, "pair", REQUEST.key)
