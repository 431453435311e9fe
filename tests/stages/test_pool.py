"""Stages that read a user's data: nothing that is asked or kept back is learnt, and changed data are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.benchmarks.catalogue import BENCHMARKS, OfficialEntry
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.benchmarks.official import OfficialBenchmarkSettings, Question
from aipo_lab.benchmarks.plain import ANSWER_FILE, PlainBenchmark
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import Artifact, ArtifactRequest, Store
from aipo_lab.prompts.reading import DataPlace, DataRequest, find_data
from aipo_lab.stages.definition import Runtime, StageNode, get_stage, run_stage
from aipo_lab.stages.kept_back import kept_back
from aipo_lab.stages.slice_pairs import SlicePairsConfig, sliced

PROMPTS = ["First thing", "second Thing", "Third thing", "Fourth thing", "Fifth thing"]


class Asked(PlainBenchmark):
    """Asks what a user's file holds too, with other spaces and capitals."""

    @classmethod
    def load(cls, limit: int | None = None) -> Asked:
        return cls([Question("1", ("Unheard of",)), Question("2", ("SECOND  thing ",))][:limit])


@pytest.fixture
def asked() -> Iterator[dict[str, Any]]:
    """A benchmark's entry in the configuration of the stages that read data."""
    metrics = BenchmarkMetrics("asked/score", "", None, "")
    entry = OfficialEntry(
        title="Asked",
        settings=OfficialBenchmarkSettings,
        loader=f"{__name__}:Asked",
        n_questions=2,
        answer_file=ANSWER_FILE,
        needs_judge=False,
        metrics=("score",),
        headline=metrics,
    )
    with BENCHMARKS.restored():
        BENCHMARKS.add("asked", entry)
        yield {"asked": "files"}


def run(store: Store, stage: str, path: Path, columns: tuple[str, ...], **config: Any) -> Artifact:
    """Run a stage on the data of a file."""
    place = DataPlace(path=str(path))
    found = find_data(DataRequest(place=place, columns=columns, setting="prompts"))
    whole = {"n_held_out": 0, "benchmarks": {}, "content": found.content} | config
    request = ArtifactRequest(stage, get_stage(stage).version, whole, {})
    return run_stage(StageNode(request, Runtime(data=found.place.model_dump())), store, lambda *_: None)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(artifact: Artifact, name: str) -> list[str]:
    return [row["prompt"] for row in read_jsonl(artifact.file(name))]


def test_the_pool_holds_neither_what_benchmarks_ask_nor_what_is_kept_back(
    store: Store, tmp_path: Path, asked: dict[str, Any]
) -> None:
    path = write(tmp_path / "p.jsonl", [{"prompt": text} for text in PROMPTS])
    made = run(store, "pool", path, ("prompt",), prompts={"source": "file"}, n_held_out=2, benchmarks=asked)
    pool, back = texts(made, "pool.jsonl"), texts(made, "held_out.jsonl")
    assert sorted(pool + back) == sorted(set(PROMPTS) - {"second Thing"})
    assert len(back) == 2
    assert made.summary["counts"] == {"benchmark_prompt": 1, "kept": 4}
    assert texts(made, "benchmark_prompts.jsonl") == ["Unheard of", "SECOND  thing "]


def test_given_pairs_ask_neither_what_benchmarks_ask_nor_what_is_kept_back(
    store: Store, tmp_path: Path, asked: dict[str, Any]
) -> None:
    rows = [{"prompt": text, "chosen": f"yes {n}", "rejected": "no"} for text in PROMPTS for n in (1, 2)]
    path = write(tmp_path / "p.jsonl", rows)
    columns = ("prompt", "chosen", "rejected")
    made = run(store, "given_pairs", path, columns, n_held_out=1, benchmarks=asked)
    (back,) = texts(made, "held_out.jsonl")
    left = [row["prompt"][0]["content"] for row in read_jsonl(made.file("pairs.jsonl"))]
    assert sorted([*left, back, back]) == sorted(row["prompt"] for row in rows if row["prompt"] != "second Thing")
    assert made.summary["counts"] == {"benchmark_prompt": 2, "held_out": 2, "kept": 6}


def test_data_that_changed_since_they_were_found_fail_the_stage(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"prompt": text} for text in PROMPTS])
    with pytest.raises(StageFailed, match=r"p\.jsonl is gone or has changed since this run began"):
        run(store, "pool", path, ("prompt",), prompts={"source": "file"}, content="another")


def test_too_few_prompts_to_keep_back_are_told_with_the_setting(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"prompt": text} for text in PROMPTS])
    with pytest.raises(StageFailed, match=r"5 prompts are to be kept back \(benchmarks\.held_out\.limit\) of 5 usable"):
        run(store, "pool", path, ("prompt",), prompts={"source": "file"}, n_held_out=5)


def test_no_prompt_left_is_told_with_the_reasons(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"prompt": text} for text in PROMPTS])
    with pytest.raises(StageFailed, match=r"no prompt is left: \{'too_short': 5\}"):
        run(store, "pool", path, ("prompt",), prompts={"source": "file", "min_chars": 50})


def test_what_is_kept_back_does_not_depend_on_order_and_grows_with_the_number() -> None:
    many = [f"prompt {number}" for number in range(100)]
    ten = set(kept_back(many, 10))
    assert ten == set(kept_back(many[::-1], 10)) < set(kept_back(many, 20))
    assert len(ten & set(kept_back([*many, *(f"more {n}" for n in range(20))], 10))) >= 6


FIRST_SLICES = {"contiguous": [0, 1, 2], "interleaved": [0, 3, 6, 9], "all": list(range(10))}


@pytest.mark.parametrize("slices", FIRST_SLICES)
def test_slices_divide_the_pairs(slices: str) -> None:
    rows = [{"n": number} for number in range(10)]
    n_parts = 1 if slices == "all" else 3
    parts = [
        [row["n"] for row in sliced(rows, SlicePairsConfig(slices=slices, part=part, parts=n_parts, text="chat"))]
        for part in range(n_parts)
    ]
    assert sorted(chain.from_iterable(parts)) == list(range(10))
    assert parts[0] == FIRST_SLICES[slices]
