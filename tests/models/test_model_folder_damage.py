"""Damaged model folders: cut-off, overwritten and half-downloaded files give a message, whatever their bytes are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model_folder import write_model

from aipo_lab.core.errors import UserError
from aipo_lab.models.model_folder.check import check_folder

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 4976698672\n".format("0" * 64)
SHARDS = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    write_model(folder / "single")
    write_model(folder / "sharded", max_shard_size="2KB")
    return {"single": folder / "single", "sharded": folder / "sharded"}


@pytest.fixture
def single(originals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(originals["single"], tmp_path / "model"))


@pytest.fixture
def sharded(originals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(originals["sharded"], tmp_path / "model"))


def problems_of(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_folder(folder, "model.source")
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "generation_config.json"])
def test_a_git_lfs_pointer_is_told_from_the_file_it_stands_for(single: Path, name: str) -> None:
    (single / name).write_text(POINTER)
    told = problems_of(single)
    assert f"{name} is a Git LFS pointer, not the file of 4976698672 bytes" in told
    assert told.count(name) == 1


def test_pointers_in_place_of_shards_are_all_named(sharded: Path) -> None:
    shards = sorted(path.name for path in sharded.glob("*.safetensors"))
    for name in shards:
        (sharded / name).write_text(POINTER)
    told = problems_of(sharded)
    assert all(f"{name} is a Git LFS pointer" in told for name in shards)


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', "null", "{'a': 1}", "\ufeff{}", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_torn_json_is_named(single: Path, name: str, content: str) -> None:
    (single / name).write_text(content, encoding="utf-8")
    assert f"{name} " in problems_of(single)


def test_json_that_is_not_text_is_named(single: Path) -> None:
    (single / "tokenizer_config.json").write_bytes(b'{"a": "\xff\xfe"}')
    assert "tokenizer_config.json is not JSON" in problems_of(single)


def test_a_link_to_nothing_is_named(single: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (single / name).unlink()
        (single / name).symlink_to(tmp_path / "blobs" / "gone")
    told = problems_of(single)
    assert "model.safetensors is a link to" in told and "tokenizer.json is a link to" in told


def test_weights_under_names_that_are_not_loaded_are_told(single: Path) -> None:
    (single / "model.safetensors").rename(single / "weights.safetensors")
    assert "only weights.safetensors, which is not loaded" in problems_of(single)
    (single / "weights.safetensors").rename(single / "model-00001-of-00002.safetensors")
    assert f"no {SHARDS}" in problems_of(single)
    (single / "model-00001-of-00002.safetensors").rename(single / "pytorch_model.bin")
    assert "there is no .safetensors file (weights such as pytorch_model.bin are not loaded" in problems_of(single)


def index_of(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    index = json.loads((folder / SHARDS).read_text())
    (folder / SHARDS).write_text(json.dumps({**index, "weight_map": change(index["weight_map"])}))


def test_missing_shards_are_counted(sharded: Path) -> None:
    shards = sorted(sharded.glob("*.safetensors"))
    for path in shards[:2]:
        path.unlink()
    assert f"2 of the {len(shards)} files that {SHARDS} names are missing: {shards[0].name}" in problems_of(sharded)


def test_a_cut_off_shard_is_named(sharded: Path) -> None:
    last = sorted(sharded.glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    assert f"{last.name} ({last.stat().st_size} bytes) is cut off or damaged" in problems_of(sharded)


def test_an_index_that_does_not_fit_its_shards_is_refused(sharded: Path) -> None:
    index_of(sharded, lambda places: {**places, "model.layers.7.x": next(iter(places.values()))})
    assert "names 1 tensors that no file holds: model.layers.7.x" in problems_of(sharded)


def test_an_index_that_leaves_a_shard_out_is_refused(sharded: Path) -> None:
    last = sorted(sharded.glob("*.safetensors"))[-1].name
    index_of(sharded, lambda places: {name: file for name, file in places.items() if file != last})
    assert f"{last} holds" in problems_of(sharded)


@pytest.mark.parametrize("places", [None, [], {}, {"a": 1}, {"a": "../model.safetensors"}, {"a": "/etc/passwd"}])
def test_an_index_without_files_of_the_folder_is_refused(sharded: Path, places: Any) -> None:
    index_of(sharded, lambda _: places)
    assert SHARDS in problems_of(sharded)


def refused_or_passed(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    try:
        check_folder(folder, "model.source")
    except UserError as error:
        assert "model.safetensors" in str(error) or "the weights" in str(error)  # noqa: PT017


OFTEN = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@OFTEN
@given(data=st.data())
def test_no_damage_to_weights_is_a_traceback(single: Path, originals: dict[str, Path], data: st.DataObject) -> None:
    content = (originals["single"] / "model.safetensors").read_bytes()
    header_end = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans(), label="cut off"):
        damaged = content[: data.draw(st.integers(0, len(content)))]
    else:
        changes = data.draw(st.lists(st.tuples(st.integers(0, header_end), st.integers(0, 255)), max_size=4))
        damaged = bytearray(content)
        for place, byte in changes:
            damaged[place] = byte
    refused_or_passed(single, bytes(damaged))


@OFTEN
@given(content=st.binary(max_size=200))
def test_random_bytes_in_place_of_weights_are_no_traceback(single: Path, content: bytes) -> None:
    refused_or_passed(single, content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries({}, optional={"dtype": JSON | st.just("F32"), "shape": JSON, "data_offsets": JSON})


@OFTEN
@given(header=JSON | st.dictionaries(st.text(max_size=8), ENTRY | JSON, max_size=3), tail=st.binary(max_size=16))
def test_any_json_as_a_header_is_no_traceback(single: Path, header: Any, tail: bytes) -> None:
    text = json.dumps(header).encode()
    refused_or_passed(single, len(text).to_bytes(8, "little") + text + tail)


@settings(parent=OFTEN, max_examples=60)
@given(
    name=st.sampled_from(["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"]),
    key=st.integers(0, 60),
    value=JSON,
)
def test_any_value_of_a_setting_is_no_traceback(
    single: Path, originals: dict[str, Path], name: str, key: int, value: Any
) -> None:
    original = json.loads((originals["single"] / name).read_text())
    (single / name).write_text(json.dumps({**original, list(original)[key % len(original)]: value}))
    try:
        check_folder(single, "model.source")
    except UserError:
        return
    finally:
        shutil.copy(originals["single"] / name, single / name)
