"""The store: what is published is whole, what is killed leaves nothing to find, and one key is built once."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.core.store import ArtifactRequest, Store, package_versions, parts_folder

REQUEST = ArtifactRequest("pair", 3, {"a": 1, "b": [0.5, None]}, {"ranking": "rank/00"})


def build_two_files(folder: Path) -> dict[str, Any]:
    (folder / "rows.jsonl").write_text("row\n")
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(bytes(1000))
    return {"pairs": 1}


def test_an_artifact_is_published_with_its_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find("pair", REQUEST.key) is None
    artifact = store.make(REQUEST, build_two_files)
    assert artifact.path == store.path("pair", REQUEST.key) == tmp_path / "pair" / REQUEST.key
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    assert manifest["files"] == {
        "rows.jsonl": {"size_bytes": 4, "sha256": hashlib.sha256(b"row\n").hexdigest()},
        "model/weights.bin": {"size_bytes": 1000, "sha256": hashlib.sha256(bytes(1000)).hexdigest()},
    }
    assert manifest["config"] == {"a": 1, "b": [0.5, None]}
    assert manifest["inputs"] == {"ranking": "rank/00"}
    assert (manifest["stage"], manifest["version"], manifest["key"]) == ("pair", 3, REQUEST.key)
    assert manifest["versions"] == package_versions()
    assert {"aipo-lab", "torch", "transformers", "tokenizers", "numpy"} <= manifest["versions"].keys()
    assert artifact.summary == {"pairs": 1}
    assert 0 <= artifact.duration_s < 10


def test_an_artifact_is_found_again_by_another_store_and_not_built_again(tmp_path: Path) -> None:
    made = Store(tmp_path).make(REQUEST, build_two_files)

    def must_not_run(folder: Path) -> dict[str, Any]:
        raise AssertionError

    again = Store(tmp_path).make(REQUEST, must_not_run)
    assert (again.path, again.manifest) == (made.path, made.manifest)
    assert Store(tmp_path).contains("pair", REQUEST.key)
    assert Store(tmp_path).get("pair", REQUEST.key).file("rows.jsonl").read_text() == "row\n"


def test_a_file_that_an_artifact_lacks_is_a_programmers_mistake(tmp_path: Path) -> None:
    artifact = Store(tmp_path).make(REQUEST, build_two_files)
    with pytest.raises(AssertionError, match=r"has no none\.json"):
        artifact.file("none.json")
    with pytest.raises(AssertionError, match="is not in the store"):
        Store(tmp_path).get("pair", "0" * 24)


def test_a_build_that_raises_publishes_nothing_and_the_next_starts_clean(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> dict[str, Any]:
        build_two_files(folder)
        parts_folder(folder).joinpath("part-0").write_text("kept")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        store.make(REQUEST, fail)
    assert store.find("pair", REQUEST.key) is None
    assert not store.contains("pair", REQUEST.key)

    def look(folder: Path) -> dict[str, Any]:
        assert [path.name for path in folder.iterdir()] == ["parts"]
        assert parts_folder(folder).joinpath("part-0").read_text() == "kept"
        return {}

    assert list(store.make(REQUEST, look).path.iterdir()) == [store.path("pair", REQUEST.key) / "manifest.json"]


def test_a_summary_that_is_not_finite_publishes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.make(REQUEST, lambda folder: {"loss": float("nan")})
    assert store.find("pair", REQUEST.key) is None


def test_a_folder_without_a_manifest_is_no_artifact_and_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    debris = store.path("pair", REQUEST.key)
    debris.mkdir(parents=True)
    (debris / "rows.jsonl").write_text("half")
    assert store.find("pair", REQUEST.key) is None
    assert store.make(REQUEST, build_two_files).file("rows.jsonl").read_text() == "row\n"


def test_a_linked_folder_is_neither_copied_nor_hashed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights").write_text("big")

    def link(folder: Path) -> dict[str, Any]:
        (folder / "model").symlink_to(outside)
        return {}

    artifact = Store(tmp_path / "store").make(REQUEST, link)
    assert artifact.manifest["files"] == {}
    assert artifact.file("model").resolve() == outside.resolve()
    assert (outside / "weights").read_text() == "big"


# A build in parts, as long stages do it: it says how far it is and waits until it is let on or killed.
BUILDER = """
import sys, time
from pathlib import Path
from aipo_lab.core.store import ArtifactRequest, Store, parts_folder

root, log, pause_after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def build(folder):
    (folder / "result").write_text("half")
    for number in range(4):
        part = parts_folder(folder) / f"part-{number}"
        if not part.exists():
            part.write_text(f"{number} ")
            with log.open("a") as stream:
                stream.write(f"{number}\\n")
        if number == pause_after:
            print("paused", flush=True)
            time.sleep(60)
        time.sleep(0.02)
    (folder / "result").write_text("".join((parts_folder(folder) / f"part-{n}").read_text() for n in range(4)))
    return {}

request = ArtifactRequest("respond", 1, {"x": 1}, {})
artifact = Store(root).make(request, build, lambda: print("waiting", flush=True))
print("done", artifact.file("result").read_text(), flush=True)
"""


def start_builder(tmp_path: Path, pause_after: int = -1) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", BUILDER, str(tmp_path / "store"), str(tmp_path / "log"), str(pause_after)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_nothing_to_find_and_the_next_continues_from_its_parts(tmp_path: Path) -> None:
    store, request = Store(tmp_path / "store"), ArtifactRequest("respond", 1, {"x": 1}, {})
    builder = start_builder(tmp_path, pause_after=2)
    assert builder.stdout is not None
    try:
        assert builder.stdout.readline() == "paused\n"
    finally:
        builder.send_signal(signal.SIGKILL)
        builder.communicate(timeout=30)
    assert store.find("respond", request.key) is None
    assert not store.path("respond", request.key).exists()
    output, _ = start_builder(tmp_path).communicate(timeout=60)
    assert output == "done 0 1 2 3 \n"  # did not wait for the dead owner's lock
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3"]  # parts 0-2 were not made twice
    artifact = store.get("respond", request.key)
    assert set(artifact.manifest["files"]) == {"result"}
    assert not list((tmp_path / "store" / "respond").glob(".work-*"))


def test_several_processes_after_the_same_key_build_it_once(tmp_path: Path) -> None:
    builders = [start_builder(tmp_path) for _ in range(4)]
    outputs = [builder.communicate(timeout=120)[0].splitlines() for builder in builders]
    assert [lines[-1] for lines in outputs] == ["done 0 1 2 3 "] * 4
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3"]


def test_who_waits_for_another_process_is_told_and_takes_over_when_it_dies(tmp_path: Path) -> None:
    first = start_builder(tmp_path, pause_after=1)
    assert first.stdout is not None
    second = None
    try:
        assert first.stdout.readline() == "paused\n"
        second = start_builder(tmp_path)
        assert second.stdout is not None
        assert second.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        assert second.poll() is None
    finally:
        first.kill()
        first.communicate(timeout=30)
        output = second.communicate(timeout=60)[0] if second else ""
    assert output == "done 0 1 2 3 \n"
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3"]


def test_a_root_that_cannot_be_written_to_is_the_users_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store")
    with pytest.raises(UserError, match="cannot write to the store") as caught:
        store.prepare()
    assert str(tmp_path / "file" / "store") in str(caught.value)
    assert "--store" in str(caught.value)


def test_preparing_leaves_no_trace_but_the_root(tmp_path: Path) -> None:
    Store(tmp_path / "a" / "b").prepare()
    assert list((tmp_path / "a" / "b").iterdir()) == []
