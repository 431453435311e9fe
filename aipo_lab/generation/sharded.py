"""Generation in shards: each shard of prompts is a part on disk, so a killed stage loses one shard at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aipo_lab.core.parts import part_rows
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
    """`n` completions per prompt, as `Engine.generate`; whole shards of these prompts in `parts` are not made again."""
    more: dict[str, Any] = {"also_ends": also_ends} if also_ends else {}  # engines without it serve most recipes
    completions: list[list[Completion]] = []
    for index, start in enumerate(range(0, len(prompts), shard_prompts)):
        progress(start, len(prompts), "prompts")
        portion = prompts[start : start + shard_prompts]
        shard_seed = derive_seed(seed, "shard", index)

        def make(portion: Sequence[Sequence[int]] = portion, shard_seed: int = shard_seed) -> Iterator[dict[str, Any]]:
            for row in engine.generate(portion, n, sampling, shard_seed, **more):
                yield {"completions": [vars(one) for one in row]}

        made_from = {
            "prompts": [list(prompt) for prompt in portion],
            "n": n,
            "sampling": sampling.model_dump(mode="json"),
            "seed": shard_seed,
            "also_ends": list(also_ends),
        }
        rows = part_rows(parts / f"shard-{index:05d}.jsonl", made_from, make)
        completions += [[Completion(**one) for one in row["completions"]] for row in rows]
    progress(len(prompts), len(prompts), "prompts")
    return completions
