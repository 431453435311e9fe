"""AlpacaEval 2's files: tables as text, what is written is read back, by us and by the package."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import pytest
from alpaca_eval_files import (
    annotation,
    outputs_of,
)
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.benchmarks.alpaca_eval.formats import read_outputs, write_annotations, write_outputs
from aipo_lab.benchmarks.alpaca_eval.package import package_module

TEXTS = ["NA", "None", "", " 12 ", 'with "quotes", commas', "two\nlines\tand a tab", "été 🎉", "1e5"]


@pytest.mark.parametrize(("suffix", "dialect"), [(".csv", "excel"), (".tsv", "excel-tab")])
def test_tables_are_read_as_text(suffix: str, dialect: str, tmp_path: Path) -> None:
    path = tmp_path / f"outputs{suffix}"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, dialect=dialect)
        writer.writerow(["", "instruction", "output", "generator"])  # the package's tables begin with an index
        writer.writerows([n, f"question {n}", text, "ours"] for n, text in enumerate(TEXTS))
    outputs = read_outputs(path)
    assert list(outputs.by_instruction.values()) == TEXTS
    assert outputs.generator == "ours"


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=5))
def test_written_outputs_are_read_back(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model_outputs.json"
        write_outputs(path, "ours", [("koala", f"question {n}", text) for n, text in enumerate(texts)])
        assert list(read_outputs(path).by_instruction.values()) == texts


def test_the_package_reads_what_is_written(tmp_path: Path) -> None:
    utils = package_module("alpaca_eval.utils")
    write_outputs(tmp_path / "model_outputs.json", "ours", [("koala", "a question", "an answer")])
    (row,) = utils.load_or_convert_to_dataframe(tmp_path / "model_outputs.json").to_dict(orient="records")
    assert row == {"dataset": "koala", "instruction": "a question", "output": "an answer", "generator": "ours"}
    write_annotations(tmp_path / "annotations.json", [annotation(1)])
    assert utils.load_or_convert_to_dataframe(tmp_path / "annotations.json").to_dict("records") == [annotation(1)]


def test_writing_and_reading_the_published_outputs_changes_nothing(tmp_path: Path) -> None:
    rows = json.loads(outputs_of("alpaca-7b").read_text())
    path = tmp_path / "model_outputs.json"
    write_outputs(path, "alpaca-7b", [(row["dataset"], row["instruction"], row["output"]) for row in rows])
    assert json.loads(path.read_text()) == rows
