"""Stored replies that are damaged are found, named and set aside; none is ever deleted, and a whole one never moved."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from aipo_lab.cli import main
from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeReply
from aipo_lab.judging.store import CallStore
from aipo_lab.judging.verification import set_aside_call, stored_calls, verify_calls

from .conftest import request

IDENTITY = {"engine": "openai", "model": "gpt-4", "label": ""}
REPLY = JudgeReply("[[A>B]] \ud83d é", "stop", 120, 9, (("m", 0), ("M", -9999.0)))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flip_the_verdict(path: Path) -> None:
    path.write_text(path.read_text().replace("[[A>B]]", "[[B>A]]"))


def forget_the_hash(path: Path) -> None:
    value = json.loads(path.read_text())
    del value["reply_sha256"]
    path.write_text(json.dumps(value))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: os.truncate(path, 0),
    "torn": lambda path: os.truncate(path, 60),
    "zeros": lambda path: path.write_bytes(bytes(200)),
    "not UTF-8": lambda path: path.write_bytes(b'{"hash": "\xff\xfe"}'),
    "of another form": lambda path: path.write_text("[]"),
    "without a field": lambda path: path.write_text('{"hash": "0"}'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "of another call": lambda path: edit(path, hash="0" * 64),
    "another verdict": flip_the_verdict,
    "a folder": replace_by_folder,
}
ONLY_VERIFIED: dict[str, Callable[[Path], object]] = {
    "of another request": lambda path: edit(
        path, request=json.loads(path.read_text())["request"] | {"messages": [["user", "b"]]}
    ),
    "of another judge": lambda path: edit(path, identity={**IDENTITY, "model": "other"}),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a [store]"


@pytest.fixture
def calls(root: Path) -> CallStore:
    (root / "judge-calls").mkdir(parents=True)
    return CallStore(root / "judge-calls", IDENTITY)


@pytest.fixture
def path(calls: CallStore) -> Path:
    """The file of one of three stored replies, one of which is discarded."""
    for text in ("a", "b", "c"):
        calls.put(calls.hash(request(text)), request(text), REPLY, 0.25)
    calls.discard(calls.hash(request("c")), "of no use")
    call = calls.hash(request("a"))
    return calls.folder / call[:2] / f"{call}.json"


def verify(root: Path, *options: str) -> tuple[int, str]:
    found = CliRunner().invoke(main, ["store", "verify", "--store", str(root), *options])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


@pytest.mark.parametrize("name", [*DAMAGES, *ONLY_VERIFIED])
def test_verify_names_a_damaged_reply_and_sets_it_aside(root: Path, path: Path, calls: CallStore, name: str) -> None:
    code, output = verify(root)
    assert (code, "0 artifacts and 3 judge replies" in output, "all intact" in output) == (0, True, True)
    (DAMAGES | ONLY_VERIFIED)[name](path)
    content = None if path.is_dir() else path.read_bytes()
    code, output = verify(root)
    assert (code, f"  {path} " in output) == (1, True)
    assert output.count("damaged judge reply") == 1
    assert "1 damaged" in output
    assert path.exists(), "it only looks"
    code, output = verify(root, "--set-aside")
    aside = path.with_name(f"{path.stem}.damaged-1.json")
    assert (code, f"set aside: {aside}" in output, path.exists()) == (1, True, False)
    assert content is None or aside.read_bytes() == content
    assert verify(root)[0] == 0
    assert calls.find(path.stem) is None
    calls.put(path.stem, request("a"), REPLY, 0.25)
    assert calls.find(path.stem) == REPLY
    assert aside.exists()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_reply_counts_as_absent_and_the_new_one_does_not_delete_it(
    path: Path, calls: CallStore, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        DAMAGES[name](path)
        content = None if path.is_dir() else path.read_bytes()
        caplog.clear()
        fresh = CallStore(calls.folder, IDENTITY)
        assert fresh.find(path.stem) is None
        assert [str(path) in record.getMessage() for record in caplog.records] == [True]
        fresh.put(path.stem, request("a"), REPLY, None)
        assert fresh.find(path.stem) == REPLY
        aside = path.with_name(f"{path.stem}.damaged-{number}.json")
        assert content is None or aside.read_bytes() == content


def test_a_damaged_discarded_reply_is_found_too(root: Path, path: Path, calls: CallStore) -> None:
    (discarded,) = calls.folder.rglob("*.discarded-1.json")
    os.truncate(discarded, 30)
    code, output = verify(root, "--set-aside")
    assert (code, str(discarded) in output) == (1, True)
    assert [one.name for one in discarded.parent.iterdir()] == [f"{discarded.stem}.damaged-1.json"]


def test_a_reply_in_a_folder_where_no_call_looks_is_named(root: Path, path: Path) -> None:
    other = path.parent.with_name("00" if path.parent.name != "00" else "01")
    other.mkdir(exist_ok=True)
    path.rename(other / path.name)
    code, output = verify(root)
    assert (code, f"move it to {path.parent.name}/" in output) == (1, True)


def test_replies_of_older_versions_have_no_hash_and_are_whole(root: Path, path: Path, calls: CallStore) -> None:
    forget_the_hash(path)
    assert calls.find(path.stem) == REPLY
    assert verify(root)[0] == 0


def test_a_reply_stored_meanwhile_is_not_moved(path: Path, calls: CallStore) -> None:
    whole = path.read_bytes()
    os.truncate(path, 60)
    (damaged,) = [file for file, problem in verify_calls(stored_calls(calls.folder)) if problem]
    with calls.claim(path.stem):
        assert set_aside_call(damaged) is None, "somebody asks for it right now"
    path.write_bytes(whole)
    assert set_aside_call(damaged) is None
    assert path.read_bytes() == whole


def test_a_discarded_reply_keeps_its_hash(path: Path, calls: CallStore) -> None:
    other = replace(REPLY, first_token_logprobs=(("a", 0),))  # an integer, as servers write it
    call = calls.hash(request("d"))
    calls.put(call, request("d"), other, None)
    calls.discard(call, "of no use")
    assert [problem for _, problem in verify_calls(stored_calls(calls.folder)) if problem] == []


def test_what_cannot_be_opened_is_told_before_anything_is_paid(calls: CallStore) -> None:
    call = calls.hash(request("a"))
    (calls.folder / call[:2]).write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot read the stored reply .* it was paid for"):
        calls.find(call)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_no_damage(root: Path, path: Path, calls: CallStore) -> None:
    path.chmod(0)
    code, output = verify(root, "--set-aside")
    assert (code, "permission" in output.lower()) == (2, True)
    assert path.exists()
    with pytest.raises(UserError, match="make it readable"):
        calls.find(path.stem)
