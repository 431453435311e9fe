"""Generation in shards: each shard of prompts is a part on disk, so a killed stage loses one shard at most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.core.progress import Progress
from aipo_lab.core.seeds import derive_seed
from aipo_lab.generation.engine import Completion, Engine, SamplingConfig


def generate_in_shards(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    n: int,
    sampling: SamplingConfig,
    seed: int,
    shard_prompts: int,
    parts: Path,
    progress: Progress,
    also_ends: Sequence[int] = (),
) -> list[list[Completion]]:
    """`n` completions per prompt, as `Engine.generate`; shards found in `parts` are not generated again."""
    more: dict[str, Any] = {"also_ends": also_ends} if also_ends else {}  # engines without it serve most recipes
    completions: list[list[Completion]] = []
    for index, start in enumerate(range(0, len(prompts), shard_prompts)):
        progress(start, len(prompts), "prompts")
        shard = parts / f"shard-{index:05d}.jsonl"
        if not shard.is_file():
            portion = prompts[start : start + shard_prompts]
            made = engine.generate(portion, n, sampling, derive_seed(seed, "shard", index), **more)
            write_jsonl(shard, ({"completions": [vars(one) for one in row]} for row in made))
        completions += [[Completion(**one) for one in row["completions"]] for row in read_jsonl(shard)]
    progress(len(prompts), len(prompts), "prompts")
    return completions
