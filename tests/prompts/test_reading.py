"""A user's files through `datasets`: every format gives the same rows, and what is wrong is said before work starts."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.prompts.reading import DataPlace, DataRequest, find_data, has_changed, read_rows

ROWS = [{"prompt": "What is rain?", "n": 1}, {"prompt": 'Say "a, b"', "n": 2}, {"prompt": "None", "n": 3}]


def request(path: Path, *columns: str, split: str = "train") -> DataRequest:
    return DataRequest(place=DataPlace(path=str(path), split=split), columns=columns or ("prompt",), setting="prompts")


def write_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\r\n" for row in ROWS), encoding="utf-8-sig")


def write_array(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")


def write_csv(path: Path) -> None:
    path.write_text('prompt,n\nWhat is rain?,1\n"Say ""a, b""",2\nNone,3\n', encoding="utf-8-sig")


def write_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


def write_compressed(path: Path) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))


def write_saved(path: Path) -> None:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(path))


FORMATS: dict[str, Callable[[Path], None]] = {
    "a.jsonl": write_lines,
    "a.json": write_array,
    "with [brackets] *.csv": write_csv,
    "a.parquet": write_parquet,
    "a.jsonl.gz": write_compressed,
    "saved": write_saved,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)
    found = find_data(request(tmp_path / name))
    assert [row["prompt"] for row in read_rows(found.place, ["prompt"], "prompts")] == [row["prompt"] for row in ROWS]


def test_data_are_their_content_and_not_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write_lines(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    one, other = find_data(request(tmp_path / "a.jsonl")), find_data(request(Path("b.jsonl")))
    assert one.content == other.content
    assert Path(str(other.place.path)).is_absolute()
    assert not has_changed(one, ["prompt"])
    (tmp_path / "a.jsonl").write_text('{"prompt": "other"}\n')
    assert has_changed(one, ["prompt"])
    (tmp_path / "a.jsonl").unlink()
    assert has_changed(one, ["prompt"])


BROKEN = {
    "a.jsonl": ('{"prompt": "a"}\n{"prompt": "b"\n', "line 2 is not valid JSON"),
    "b.jsonl": ('"a"\n"b"\n', "line 1 holds str, not an object"),
    "c.jsonl": ("", "holds no rows"),
    "d.jsonl": ('{"prompt": "a"}\n{"prompt": "caf\xe9"}\n', "is not in UTF-8"),
    "i.json": ('[{"prompt": "a"}, 5]', "entry 2 holds int"),
    "e.docx": ("x", "valid: jsonl, ndjson, json, csv"),
    "f.jsonl": ('{"text": "a", "n": 1}\n', r"there is no column 'prompt'; .*valid: (text, n|n, text)"),
    "g.csv": ("text,n\na,1\n", "there is no column 'prompt'; .*valid: text, n"),
    "h.parquet": ("no parquet", "cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said_with_file_reason_and_next_step(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=message) as raised:
        find_data(request(tmp_path / name))
    assert name in str(raised.value)


def test_a_missing_file_says_where_it_was_sought(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prompts\.path .* is not there \(looked for /"):
        find_data(request(tmp_path / "none.jsonl"))


def test_a_missing_split_lists_those_there_are(tmp_path: Path) -> None:
    write_saved(tmp_path / "saved")
    with pytest.raises(UserError, match=r"no split 'train_prefs'; .*valid: train"):
        find_data(request(tmp_path / "saved", split="train_prefs"))


def test_an_unreachable_hub_names_the_dataset_and_the_offline_way(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    place = DataPlace(dataset="owner/no-such-dataset")
    with pytest.raises(UserError, match=r"'owner/no-such-dataset' could not be had .*HF_HOME.* as prompts\.path"):
        find_data(DataRequest(place=place, columns=("prompt",), setting="prompts"))


def test_a_hub_that_does_not_answer_is_not_asked_again_and_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda s: pytest.fail(f"it waits {s} s to ask again"))
    place = DataPlace(dataset="owner/no-such-dataset")
    with pytest.raises(UserError, match=r"could not be had .*HF_HOME"):
        find_data(DataRequest(place=place, columns=("prompt",), setting="prompts"))
    assert "Retrying" not in capfd.readouterr().err


def test_without_the_package_the_error_is_its_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "a.csv")
    write_lines(tmp_path / "a.jsonl")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert find_data(request(tmp_path / "a.jsonl")).content  # JSON needs nothing more
    with pytest.raises(MissingDependency, match=r"pip install 'aipo-lab\[data\]'"):
        find_data(request(tmp_path / "a.csv"))


def test_a_column_that_changes_its_type_late_leaves_the_texts_as_they_are(tmp_path: Path) -> None:
    """`datasets` puts a whole part of such a file into quotes."""
    values = [*(f"{number} {'x' * 1000}" for number in range(12_000)), 5, "last \u2028 \x85 line"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"prompt": one}, ensure_ascii=False) + "\n" for one in values))
    found = find_data(request(tmp_path / "a.jsonl"))
    assert [row["prompt"] for row in read_rows(found.place, ["prompt"], "prompts")] == values
