"""Everything published is flushed after its last write and before its name counts: files, folders and parents.

The flushes are recorded by inode, with the content that was there; a rename after which something is not flushed fails.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core import durability
from aipo_lab.core.jsonl import write_json, write_jsonl, write_text_atomically
from aipo_lab.core.store import ArtifactRequest, Store, parts_folder
from aipo_lab.judging.calls import JudgeReply
from aipo_lab.judging.store import CallStore
from aipo_lab.training.checkpoint import TrainingCheckpoints

REQUEST = ArtifactRequest("pair", 3, {"a": 1}, {})

State = tuple[Any, ...]


def state_of(path: Path) -> State:
    """What a flush makes last: a file's content, a folder's names."""
    if path.is_dir():
        return tuple(sorted(one.name for one in path.iterdir()))
    return (path.read_bytes(), path.stat().st_mode)


class Disk:
    """Wraps `os.fsync` and `os.replace`: what was flushed, and what was not when a name came to count."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.flushed: dict[int, State] = {}
        self.renamed: list[Path] = []
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.flushed[os.fstat(descriptor).st_ino] = state_of(path)

    def replace(self, source: str | Path, target: str | Path) -> None:
        source = Path(source)
        inside = [source, *source.rglob("*")] if source.is_dir() else [source]
        assert not [path for path in inside if not self.lasts(path)], "not flushed before the rename"
        self._replace(source, target)
        self.renamed.append(Path(target))

    def lasts(self, path: Path) -> bool:
        return path.is_symlink() or self.flushed.get(path.stat().st_ino) == state_of(path)

    def assert_lasts(self, path: Path) -> None:
        """The path and all names that lead to it from the root are on the disk."""
        assert path in self.renamed
        while path != self.root:
            assert self.lasts(path), path
            path = path.parent
        assert self.lasts(path), path


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    yield Disk(tmp_path, monkeypatch)
    monkeypatch.undo()


def build(folder: Path) -> dict[str, Any]:
    (folder / "rows.jsonl").write_text("row\n")
    (folder / "model" / "official").mkdir(parents=True)
    (folder / "model" / "official" / "answers.json").write_text("[]")
    (folder / "model" / "weights.bin").write_bytes(bytes(1000))
    (folder / "model" / "weights.bin").chmod(0o600)
    return {}


def test_an_artifact_lasts(tmp_path: Path, disk: Disk) -> None:
    artifact = Store(tmp_path / "store").make(REQUEST, build)
    disk.assert_lasts(artifact.path)
    assert [path for path in artifact.path.rglob("*") if not disk.lasts(path)] == []


def test_what_is_set_aside_lasts(tmp_path: Path, disk: Disk) -> None:
    store = Store(tmp_path / "store")
    (store.make(REQUEST, build).path / "rows.jsonl").write_text("other")
    disk.flushed.clear()
    disk.replace = lambda *_: None  # type: ignore[method-assign]
    durability.flush_tree(tmp_path)
    aside = store.set_aside("pair", REQUEST.key)
    assert aside is not None
    assert disk.lasts(aside.parent)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text_atomically(path, "x"),
        lambda path: write_json(path, {"x": 1}),
        lambda path: write_jsonl(path, [{"x": 1}]),
    ],
)
def test_a_part_lasts(tmp_path: Path, disk: Disk, write: Callable[[Path], None]) -> None:
    store = Store(tmp_path / "store")

    def build_in_parts(folder: Path) -> dict[str, Any]:
        part = parts_folder(folder) / "shard-00000.jsonl"
        write(part)
        disk.assert_lasts(part)
        return {}

    store.make(REQUEST, build_in_parts)


class OneWeight:
    """An updater that saves nested files, as DeepSpeed does."""

    def save(self, folder: Path) -> None:
        (folder / "state").mkdir()
        (folder / "state" / "part-0").write_bytes(b"weights")
        (folder / "model.safetensors").write_bytes(b"weights")


def test_a_checkpoint_lasts(tmp_path: Path, disk: Disk) -> None:
    checkpoints = TrainingCheckpoints(tmp_path / "parts" / "replicated", 0)
    checkpoints.save_if_due(OneWeight(), [{"loss": 1.0}], "cpu")  # type: ignore[arg-type]
    disk.assert_lasts(tmp_path / "parts" / "replicated" / "step-00000001")


def test_a_judges_reply_lasts_before_it_counts_as_answered(tmp_path: Path, disk: Disk) -> None:
    from aipo_lab.judging.calls import JudgeRequest, Message

    calls = CallStore(tmp_path, {"engine": "openai"})
    request = JudgeRequest((Message("user", "a"),), 16, 0, 0)
    call = calls.hash(request)
    calls.put(call, request, JudgeReply("text", "stop", 1, 1, ()), 0.5)
    disk.assert_lasts(tmp_path / call[:2] / f"{call}.json")
    calls.discard(call, "no verdict")
    disk.assert_lasts(tmp_path / call[:2] / f"{call}.discarded-1.json")


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o007, 0o660, 0o770)])
def test_published_files_are_readable_by_whom_the_umask_allows(
    tmp_path: Path, umask: int, file_mode: int, folder_mode: int
) -> None:
    before = os.umask(umask)
    try:
        artifact = Store(tmp_path / "store").make(REQUEST, build)
    finally:
        os.umask(before)
    for path in artifact.path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (folder_mode if path.is_dir() else file_mode), path


def test_weights_saved_by_safetensors_are_readable_too(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    def save(folder: Path) -> dict[str, Any]:
        save_file({"x": torch.zeros(3)}, folder / "model.safetensors")
        return {}

    before = os.umask(0o022)
    try:
        artifact = Store(tmp_path / "store").make(REQUEST, save)
    finally:
        os.umask(before)
    assert artifact.file("model.safetensors").stat().st_mode & 0o777 == 0o644


def test_file_systems_that_flush_no_folders_are_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EINVAL, "Invalid argument")))
    durability.flush(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        durability.flush(tmp_path / "file")


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.none(), max_size=3)))
def test_what_is_written_as_json_lines_is_read_by_any_reader(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    write_jsonl(path, rows)
    content = path.read_bytes()
    assert [json.loads(line) for line in content.split(b"\n")[:-1]] == rows
    assert content == b"" or content.endswith(b"\n")


def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_text_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_text_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")
def test_a_full_disk_under_the_store_is_a_message(tmp_path: Path) -> None:
    """With safetensors too, which reports it in an error of its own; and in a folder mounted read-only."""
    script = """
import os, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.core.errors import UserError
root = Path(sys.argv[1])
def plain(folder):
    (folder / "rows").write_bytes(bytes(3_000_000))
    return {}
def weights(folder):
    save_file({"x": torch.zeros(1_000_000)}, folder / "model.safetensors")
    return {}
for build in (plain, weights):
    try:
        Store(root).make(ArtifactRequest("pair", 1, {"build": build.__name__}, {}), build)
    except UserError as error:
        print(error)
    for path in root.rglob("rows"):
        path.unlink()
os.system(f"mount -o remount,ro {root}")
try:
    Store(root).make(ArtifactRequest("pair", 2, {}, {}), plain)
except UserError as error:
    print(error)
"""
    root = tmp_path / "full"
    root.mkdir()
    command = f"mount -t tmpfs -o size=1m none {root} && exec {sys.executable} -c '{script}' {root}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=120)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine does not permit mounting: {done.stderr}")
    lines = done.stdout.splitlines()
    assert [line.count("no space left on the device; make room") for line in lines] == [1, 1, 0], done
    assert "the file system is read-only; permit writing" in lines[2]
    assert all("--store" in line and str(root) in line for line in lines)


def test_a_tree_is_flushed_with_its_root(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    durability.flush_tree(tmp_path / "a")
    assert all(disk.lasts(path) for path in (tmp_path / "a", *(tmp_path / "a").rglob("*")))
