"""Generation in shards: parts on disk are taken as they are, and what is missing comes out the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.generation.sharded import generate_in_shards
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.policy import Policy

SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=12)
PROMPTS = [[1, 4, *range(10, 10 + n % 5 + 1), 5] for n in range(11)]


class CountingEngine:
    """The real engine, counting the prompts of each call."""

    def __init__(self, policy: Policy) -> None:
        self.engine = TransformersEngine(policy, 8)
        self.calls: list[int] = []

    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: SamplingConfig, seed: int, stop: Sequence[str] = ()
    ) -> list[list[Completion]]:
        self.calls.append(len(prompts))
        return self.engine.generate(prompts, n, sampling, seed, stop)


def generate(policy: Policy, parts: Path, seed: int = 3) -> tuple[list[list[Completion]], list[int]]:
    engine = CountingEngine(policy)
    parts.mkdir(exist_ok=True)
    return generate_in_shards(engine, PROMPTS, 2, SAMPLING, seed, 4, parts, lambda *_: None), engine.calls


def test_each_shard_is_a_part_and_every_prompt_gets_its_completions(policy: Policy, tmp_path: Path) -> None:
    made, calls = generate(policy, tmp_path)
    assert [len(row) for row in made] == [2] * 11
    assert calls == [4, 4, 3]
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"shard-0000{i}.jsonl" for i in range(3)]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_shard_alone_is_made_again_and_comes_out_the_same(policy: Policy, tmp_path: Path, lost: int) -> None:
    made, _ = generate(policy, tmp_path)
    files = sorted(tmp_path.iterdir())
    contents = [path.read_bytes() for path in files]
    files[lost].unlink()
    again, calls = generate(policy, tmp_path)
    assert calls == [[4, 4, 3][lost]]
    assert again == made
    assert [path.read_bytes() for path in files] == contents


def test_shards_of_other_prompts_samplings_or_seeds_are_not_taken(policy: Policy, tmp_path: Path) -> None:
    made, _ = generate(policy, tmp_path)
    other, calls = generate(policy, tmp_path, seed=4)
    assert (calls, other != made) == ([4, 4, 3], True)
    engine = CountingEngine(policy)
    again = generate_in_shards(engine, PROMPTS[::-1], 2, SAMPLING, 4, 4, tmp_path, lambda *_: None)
    fresh, _ = generate(policy, tmp_path / "fresh", seed=4)
    assert engine.calls == [4, 4, 3]
    assert again != fresh
    shorter = SAMPLING.model_copy(update={"max_new_tokens": 3})
    cut = generate_in_shards(engine, PROMPTS[::-1], 2, shorter, 4, 4, tmp_path, lambda *_: None)
    assert max(one.n_tokens for row in cut for one in row) == 3


def test_nothing_is_generated_when_all_shards_are_there(policy: Policy, tmp_path: Path) -> None:
    made, _ = generate(policy, tmp_path)
    again, calls = generate(policy, tmp_path)
    assert calls == []
    assert again == made


def test_shards_draw_different_random_numbers(policy: Policy, tmp_path: Path) -> None:
    same_prompts = [PROMPTS[0]] * 8
    engine = CountingEngine(policy)
    made = generate_in_shards(engine, same_prompts, 1, SAMPLING, 3, 4, tmp_path, lambda *_: None)
    assert made[:4] != made[4:]


def test_progress_counts_prompts_to_the_end(policy: Policy, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    engine = CountingEngine(policy)
    generate_in_shards(engine, PROMPTS, 1, SAMPLING, 3, 4, tmp_path, lambda *at: seen.append(at))
    assert seen == [(0, 11, "prompts"), (4, 11, "prompts"), (8, 11, "prompts"), (11, 11, "prompts")]
