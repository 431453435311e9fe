"""Where a base model comes from: folders are checked and fingerprinted by content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.models.fingerprint import REMEMBERED_FILE_BYTES, fingerprint_folder
from aipo_lab.pipeline.base_model import BaseModel, check_model_folder, find_base_model
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.stages.definition import Runtime

RECIPE = build_recipe(profile_values("micro"))


def test_the_micro_model_is_trained_not_found() -> None:
    model = find_base_model("micro")
    assert model == BaseModel()
    assert model.config(RECIPE) == {"micro": RECIPE.model.micro.model_dump(mode="json"), "fingerprint": None}


def test_a_folder_is_known_by_its_content_not_by_its_place(base_model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base_model_folder, copy)
    original, other = (find_base_model(str(folder)) for folder in (base_model_folder, copy))
    assert original.config(RECIPE) == other.config(RECIPE)
    assert original.config(RECIPE)["micro"] is None
    assert other.runtime(Runtime()).model_folder == str(copy.resolve())
    check_model_folder(copy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_changed_byte_is_another_model(base_model_folder: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base_model_folder, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    assert fingerprint_folder(copy) != fingerprint_folder(base_model_folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_large_files_are_told_apart_wherever_a_tensor_differs(
    tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fine-tune may leave embeddings and the last layers alone: a twentieth in the middle is enough."""
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    size = 2 * REMEMBERED_FILE_BYTES
    content, changed = bytes(size), bytearray(size)
    start = round(share * (size - size // 20))
    changed[start : start + size // 20] = b"x" * (size // 20)
    prints = set()
    for one in (content, bytes(changed), content[:-1]):
        (tmp_path / "model.safetensors").write_bytes(one)
        prints.add(fingerprint_folder(tmp_path))
    assert len(prints) == 3


def test_files_that_do_not_matter_do_not_count(base_model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base_model_folder, copy)
    (copy / "README.md").write_text("words")
    assert fingerprint_folder(copy) == fingerprint_folder(base_model_folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "is not JSON"), ("[]", "holds a JSON list"), ("{}", "names no model_type"), ('"x"', "holds a JSON str")],
)
def test_a_config_that_names_no_model_is_refused(
    base_model_folder: Path, tmp_path: Path, content: str, reason: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base_model_folder, copy)
    (copy / "config.json").write_text(content)
    with pytest.raises(UserError, match=rf"config\.json {reason}"):
        find_base_model(str(copy))
