"""Errors of a place become messages that name the place, the reason and the way out; errors of anything else pass."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aipo_lab.core.durability import make_folders, rename_into_place
from aipo_lab.core.errors import UserError
from aipo_lab.core.storage_errors import storage_errors
from aipo_lab.core.store import ArtifactRequest, Store


def said(root: Path, action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught, storage_errors(root, "store", "--store"):
        action()
    message = str(caught.value)
    assert message.startswith(f"cannot write to the store {root}: ") and "another place with --store" in message
    return message


def file_where_a_folder_should_be(root: Path) -> None:
    (root / "a").write_text("")
    make_folders(root / "a")


def file_on_the_way(root: Path) -> None:
    (root / "a").write_text("")
    (root / "a" / "b").mkdir()


def folder_over_a_full_one(root: Path) -> None:
    make_folders(root / "a")
    make_folders(root / "b" / "c")
    rename_into_place(root / "a", root / "b")


def file_over_a_folder(root: Path) -> None:
    (root / "a").write_text("")
    make_folders(root / "b")
    rename_into_place(root / "a", root / "b")


def links_in_a_circle(root: Path) -> None:
    (root / "a").symlink_to(root / "a")
    (root / "a").open("w")


def long_name(root: Path) -> None:
    (root / ("a" * 300)).mkdir()


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (file_where_a_folder_should_be, "a file is where a folder should be"),
        (file_on_the_way, "a file is where a folder should be"),
        (folder_over_a_full_one, "another process has put something there"),
        (file_over_a_folder, "a folder is where a file should be"),
        (links_in_a_circle, "links go round in a circle"),
        (long_name, "a name is too long"),
    ],
)
def test_what_lies_in_the_way_is_said(tmp_path: Path, action: Callable[[Path], None], reason: str) -> None:
    assert reason in said(tmp_path, lambda: action(tmp_path))


@pytest.mark.parametrize("code", [errno.EEXIST, errno.ENOTEMPTY])
def test_a_target_that_is_not_empty_may_have_either_name(tmp_path: Path, code: int) -> None:
    def rename() -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / "a"), None, str(tmp_path / "b"))

    assert "another process has put something there" in said(tmp_path, rename)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EBUSY, "in use"),
        (errno.EXDEV, "on another file system"),
        (errno.ESTALE, "the network file system has lost"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, "the disk reports an error"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission is denied"),
    ],
)
def test_a_cause_counts_where_it_names_a_file_of_the_place(tmp_path: Path, code: int, reason: str) -> None:
    def fail(path: Path) -> None:
        try:
            raise OSError(code, os.strerror(code), str(path))
        except OSError as error:
            raise RuntimeError("the library could not save") from error

    assert reason in said(tmp_path, lambda: fail(tmp_path / "a" / "b"))
    with pytest.raises(RuntimeError, match="could not save"), storage_errors(tmp_path, "store", "--store"):
        fail(tmp_path.parent / "elsewhere")


def test_an_error_without_a_name_counts_only_if_it_can_be_of_no_other_place(tmp_path: Path) -> None:
    def fail(code: int) -> None:
        raise OSError(code, os.strerror(code))

    assert "lost a file that was open" in said(tmp_path, lambda: fail(errno.ESTALE))
    with pytest.raises(FileExistsError), storage_errors(tmp_path, "store", "--store"):
        fail(errno.EEXIST)


def test_a_message_stays_as_it_is(tmp_path: Path) -> None:
    def refuse() -> None:
        raise UserError("choose a smaller batch") from OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"^choose a smaller batch$"), storage_errors(tmp_path, "store", "--store"):
        refuse()


@pytest.mark.parametrize("name", ["pair", "locks"])
def test_a_file_where_the_store_keeps_folders_is_a_message(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("notes")
    with pytest.raises(UserError, match=r"a file is where a folder should be; move it away, or .* --store"):
        Store(tmp_path).make(ArtifactRequest("pair", 1, {}, {}), lambda _: {})
    assert (tmp_path / name).read_text() == "notes"
