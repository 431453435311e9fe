"""One reader for the files of all benchmarks: what is read, and what is refused with its line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.benchmarks.alpaca_eval.formats import read_annotations, read_outputs
from aipo_lab.benchmarks.alpaca_eval.scoring import score_alpaca_eval
from aipo_lab.benchmarks.arena_hard.formats import read_judgments
from aipo_lab.benchmarks.mt_bench.judgments import score_mt_bench
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.core.unicode import repaired

BROKEN = "half an emoji \ud83d, a line\u2028separator, \x85 and \x0b"
WHOLE = BROKEN.replace("\ud83d", "\ufffd")


def mt_row(turn: int) -> dict[str, Any]:
    judgment = f"{BROKEN} [[{turn + 5}]]"
    return {
        "question_id": 81,
        "model": "m",
        "judge": ["j", "p"],
        "turn": turn,
        "score": turn + 5,
        "judgment": judgment,
    }


def arena_row(id_: str) -> dict[str, Any]:
    games = [{"user_prompt": "", "judgment": f"{BROKEN} [[{label}]]", "score": label} for label in ("A>B", "B>A")]
    return {"question_id": id_, "model": "m", "judge": "j", "games": games}


def alpaca_row(instruction: str) -> dict[str, Any]:
    sides = {"generator_1": "gpt4_1106_preview", "generator_2": "m", "output_1": "a", "output_2": BROKEN}
    return {"instruction": instruction, "annotator": "j", "preference": 1.5, **sides}


def read_mt_bench(path: Path) -> Any:
    return score_mt_bench(path)["m"].scores["score"].value


def read_arena_hard(path: Path) -> Any:
    return [game.text for rows in read_judgments(path).judgments.values() for row in rows for game in row.games]


def read_alpaca_eval(path: Path) -> Any:
    return [row["output_2"] for row in read_annotations(path)]


Reader = Callable[[Path], Any]
KINDS: dict[str, tuple[Reader, str, Any]] = {
    "mt_bench": (read_mt_bench, "\n".join(json.dumps(mt_row(turn)) for turn in (1, 2)), 6.5),
    "arena_hard": (
        read_arena_hard,
        "\n".join(json.dumps(arena_row(id_)) for id_ in "ab"),
        [f"{WHOLE} [[{label}]]" for label in ("A>B", "B>A")] * 2,
    ),
    "alpaca_eval": (read_alpaca_eval, json.dumps([alpaca_row("a"), alpaca_row("b")], indent=1), [WHOLE, WHOLE]),
}
FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "with a byte order mark": lambda text: text.encode("utf-8-sig"),
    "with two byte order marks": lambda text: ("\ufeff" + text).encode("utf-8-sig"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "UTF-16 as PowerShell writes it": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "UTF-16 big end first, no mark": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "blank lines": lambda text: f"\n\n \t\n{text}\n\n".replace("}\n", "}\n\n").encode(),
    "raw separators": lambda text: text.replace(r"\u2028", "\u2028").replace(r"\u0085", "\x85").encode(),
    "raw half of an emoji": lambda text: text.replace(r"\ud83d", "\ud83d").encode("utf-8", "surrogatepass"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_can_be_read_in_one_way_is_read(tmp_path: Path, kind: str, form: str) -> None:
    reader, text, expected = KINDS[kind]
    path = tmp_path / "file.json"
    path.write_bytes(FORMS[form](text))
    assert reader(path) == expected


def last_line(text: str, change: Callable[[str], str]) -> str:
    head, _, last = text.rpartition("\n")
    return f"{head}\n{change(last)}"


BAD: dict[str, tuple[Callable[[str], bytes], str]] = {
    "nothing": (lambda text: b"", "empty"),
    "blank": (lambda text: b"\xef\xbb\xbf \r\n", "empty"),
    "gzip": (lambda text: gzip.compress(text.encode()), "gunzip"),
    "a Git LFS pointer": (lambda text: b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    "Latin-1": (lambda text: (text + "\n{}é").encode("latin-1"), r"line \d+: the byte 0xe9 is not UTF-8"),
    "NUL bytes": (lambda text: text.encode() + b"\n\0\0\0\0", "NUL bytes"),
    "a trailing comma": (lambda text: last_line(text, lambda line: line + ",").encode(), r"Extra data|property name"),
    "cut in the middle": (lambda text: text[:-9].encode(), r"Unterminated|Expecting|Invalid"),
    "a deep nest": (lambda text: last_line(text, lambda line: "[" * 100_000).encode(), "nested|Expecting"),
    "a huge number": (lambda text: last_line(text, lambda line: "9" * 5000).encode(), "4300 digits|Expecting"),
}


@pytest.mark.parametrize("damage", BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_anything_else_is_refused_with_the_reason(tmp_path: Path, kind: str, damage: str) -> None:
    reader, text, _ = KINDS[kind]
    path = tmp_path / "file.json"
    change, reason = BAD[damage]
    path.write_bytes(change(text))
    with pytest.raises(UserError, match=reason) as raised:
        reader(path)
    assert str(path) in str(raised.value)
    with pytest.raises(UserError, match=r"cannot read|holds no"):
        reader(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        reader(tmp_path / "absent")


@pytest.mark.parametrize("kind", ["mt_bench", "arena_hard"])
def test_the_number_of_a_bad_line_is_that_of_an_editor(tmp_path: Path, kind: str) -> None:
    reader, text, _ = KINDS[kind]
    lines = text.replace(r"\u2028", "\u2028").split("\n")
    path = tmp_path / "file.jsonl"
    path.write_text("\r\n".join([lines[0], "", lines[1], "{broken", lines[0][:30]]), encoding="utf-8-sig", newline="")
    with pytest.raises(UserError) as raised:
        reader(path)
    assert "line 4: not JSON (" in str(raised.value)
    assert "line 5: not JSON (" in str(raised.value)
    assert "the file ends in the middle of a row" in str(raised.value).splitlines()[2]


def test_a_key_that_is_there_twice_with_two_values_is_refused(tmp_path: Path) -> None:
    row = json.dumps(mt_row(1))
    path = tmp_path / "file.jsonl"
    path.write_text(row.replace('"turn": 1', '"turn": 1, "turn": 1'))
    assert read_mt_bench(path) == 6
    path.write_text(row.replace('"score": 6', '"score": 6, "score": 9'))
    with pytest.raises(UserError, match=r"line 1: not JSON .the key 'score' stands there twice, with 6 and 9"):
        read_mt_bench(path)


def test_preferences_that_are_texts_are_named_so(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([alpaca_row("a") | {"preference": "1.9"}]))
    with pytest.raises(UserError, match="no numbers but of type str"):
        score_alpaca_eval(path)


def test_tables_are_read_whatever_wrote_them(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        path = tmp_path / "outputs.csv"
        path.write_bytes('instruction,output,generator\r\nq,"an é\nNA",m\r\n'.encode(encoding))
        assert read_outputs(path).by_instruction == {"q": "an é\nNA"}


def test_texts_are_repaired_where_utf_8_has_no_place_for_them(tmp_path: Path) -> None:
    assert repaired("\ud83d\ude42 \ud83d \ude42") == "🙂 \ufffd \ufffd"
    write_jsonl(tmp_path / "rows.jsonl", [{"text": BROKEN}])
    (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    assert read_jsonl(tmp_path / "rows.jsonl") == [{"text": BROKEN}]
