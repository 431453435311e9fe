"""Parts come back as they were written, or not at all."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from part_damages import DAMAGES

from aipo_lab.core.parts import part_rows, read_part, write_part

ROWS = [{"text": "a \u2028 é \ud83d", "logprobs": [-0.1, -1e-300]}, {"text": "b\r\n", "logprobs": None}]
SOURCES = {"prompts": [[1, 2], [3]], "seed": 4}

values = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters())
rows_of_values = st.lists(st.dictionaries(st.text(), values | st.lists(values, max_size=3), max_size=3), max_size=5)


@given(rows=rows_of_values, made_from=values)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], made_from: Any) -> None:
    path = tmp_path_factory.mktemp("parts") / "part.jsonl"
    assert read_part(path, made_from) is None
    write_part(path, made_from, rows)
    assert read_part(path, made_from) == rows


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_part_is_dropped_with_a_warning_and_made_again(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "part.jsonl"
    write_part(path, SOURCES, ROWS)
    whole = path.read_bytes()
    DAMAGES[name](path)
    assert part_rows(path, SOURCES, lambda: ROWS) == ROWS
    assert path.read_bytes() == whole
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{path} is dropped and made again" in message


def test_a_whole_part_is_not_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "part.jsonl"
    write_part(path, SOURCES, ROWS)
    assert part_rows(path, SOURCES, lambda: pytest.fail("made again")) == ROWS
    assert caplog.records == []


@pytest.mark.parametrize("others", [{"prompts": [[1, 2]], "seed": 4}, {"prompts": [[1, 2], [3]], "seed": 5}, None])
def test_a_part_of_other_inputs_is_not_used(tmp_path: Path, others: Any) -> None:
    path = tmp_path / "part.jsonl"
    write_part(path, others, [{"text": "of other inputs"}])
    assert part_rows(path, SOURCES, lambda: ROWS) == ROWS


def test_a_link_to_nowhere_is_no_part(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    path.symlink_to(tmp_path / "nowhere")
    assert part_rows(path, SOURCES, lambda: ROWS) == ROWS
    assert not path.is_symlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    write_part(path, SOURCES, ROWS)
    path.chmod(0)
    with pytest.raises(PermissionError):
        read_part(path, SOURCES)
    assert path.exists()


def test_a_part_that_is_no_json_is_not_committed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_part(tmp_path / "part.jsonl", SOURCES, [{"score": float("nan")}])
    assert list(tmp_path.iterdir()) == []
