"""What the stages that read a user's data share: prompts kept back for `held_out`, and what benchmarks ask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.catalogue import load_official
from aipo_lab.benchmarks.held_out import HeldOut
from aipo_lab.benchmarks.official import OfficialBenchmark
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import iterate_jsonl, write_jsonl
from aipo_lab.prompts.reading import DataPlace, FoundData, has_changed
from aipo_lab.prompts.same import PromptSet, same_words
from aipo_lab.stages.definition import Runtime, StageContext

KEPT_BACK = "held_out.jsonl"


def benchmark_prompts(benchmarks: Iterable[str]) -> list[str]:
    """Every turn that these benchmarks ask, whatever limit they are asked with."""
    return [turn for name in benchmarks for question in load_official(name, None).questions for turn in question.turns]


def kept_back(prompts: Sequence[str], n: int) -> list[str]:
    """`n` of the prompts, by the hash of their words: as good as drawn, and the same ones in whatever order they come.

    Raises `StageFailed` if nothing would be left.
    """
    by_words = {same_words(prompt): prompt for prompt in prompts}
    if n >= len(by_words):
        raise StageFailed(
            f"{n} prompts are to be kept back (benchmarks.held_out.limit) of {len(by_words)} usable ones, which leaves "
            "none to learn from; lower benchmarks.held_out.limit, or give more data"
        )
    chosen = sorted(by_words, key=lambda words: hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest())[:n]
    return [by_words[words] for words in chosen]


def write_kept_back(folder: Path, prompts: Sequence[str], asked: Sequence[str]) -> None:
    """Write `held_out.jsonl`: what was kept back."""
    write_jsonl(folder / KEPT_BACK, ({"id": f"{i:06d}", "prompt": text} for i, text in enumerate(prompts)))
    write_jsonl(folder / "benchmark_prompts.jsonl", ({"prompt": text} for text in asked))


def never_prompted(folder: Path) -> PromptSet:
    """What no policy may be trained on: prompts kept back and those of benchmarks."""
    names = (KEPT_BACK, "benchmark_prompts.jsonl")
    return PromptSet(row["prompt"] for name in names for row in iterate_jsonl(folder / name))


def load_benchmark(context: StageContext[Any]) -> OfficialBenchmark:
    """The benchmark of a stage's config, its questions from the input `questions` where it has one."""
    kept = context.inputs.get("questions")
    if kept is not None:
        return HeldOut.of(kept.file(KEPT_BACK))
    return load_official(context.config.benchmark, context.config.limit)


def data_place(runtime: Runtime, content: str, columns: Sequence[str], setting: str) -> DataPlace:
    """Where the data with that content are; raises `StageFailed` if they are gone or have changed."""
    assert runtime.data is not None, "a stage that reads data is told where they are"
    place = DataPlace(**runtime.data)
    if has_changed(FoundData(place=place, content=content), columns):
        raise StageFailed(
            f"{place.text()} is gone or has changed since this run began; put it back, or run again to work with what "
            f"is there now ({setting})"
        )
    return place


def summary(counts: Mapping[str, int], **more: Any) -> dict[str, Any]:
    """The stage's summary: how many rows were kept, and dropped for which reason."""
    return {**more, "counts": dict(sorted(counts.items()))}
