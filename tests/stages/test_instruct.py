"""What instruct learns from and asks for: examples drawn anew from the whole pool, and no benchmark prompt ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.errors import StageFailed
from aipo_lab.generation.official_instruct import official_prompt
from aipo_lab.generation.self_instruct import few_shot_prompt
from aipo_lab.worlds.constraints.world import ConstraintsWorld
from aipo_lab.worlds.micro.world import MicroWorld
from aipo_lab.worlds.world import get_world

RunStage = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]
Instruct = Callable[..., tuple[list[str], dict[str, Any]]]

CONFIG = {
    "n_prompts": 30,
    "n_examples": 6,
    "n_per_completion": 2,
    "max_tokens": 40,
    "sampling": {"temperature": 0.9, "max_new_tokens": 48},
    "seed": 5,
    "world": {"name": "micro", "seed": 0},
    "engine": {"batch_size": 64, "shard_prompts": 8},
}


@pytest.fixture
def instruct(run_stage_on: RunStage, base_model_folder: Path) -> Instruct:
    """Runs the stage with a tiny trained policy; returns its prompts and its counts."""

    def run(**changes: Any) -> tuple[list[str], dict[str, Any]]:
        rows, summary = run_stage_on(
            "instruct", CONFIG | changes, {"policy": {"model": base_model_folder}}, "prompts.jsonl"
        )
        return [row["prompt"] for row in rows], summary["counts"]

    return run


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The few-shot examples of every completion asked for, in order."""
    shown: list[list[str]] = []

    def seen(chosen: Sequence[str]) -> str:
        shown.append(list(chosen))
        return few_shot_prompt(chosen)

    monkeypatch.setattr("aipo_lab.stages.self_instruct.few_shot_prompt", seen)
    return shown


def hold_out(world: type, prompts: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `prompts` the world's benchmark."""
    monkeypatch.setattr(world, "benchmark_prompts", lambda self, n=None: list(prompts)[:n])


def test_the_policys_own_instructions_never_hold_a_benchmark_prompt(
    instruct: Instruct, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, before = instruct()
    assert not set(written) & set(get_world("micro").benchmark_prompts())
    held_out = written[::2]
    hold_out(MicroWorld, held_out, monkeypatch)
    kept, counts = instruct()
    assert kept
    assert not set(kept) & set(held_out)
    assert counts["benchmark_prompt"] > before.get("benchmark_prompt", 0)


@pytest.mark.parametrize(("name", "world"), [("micro", MicroWorld), ("constraints", ConstraintsWorld)])
def test_prompts_of_the_pool_never_hold_a_benchmark_prompt(
    name: str, world: type, instruct: Instruct, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = get_world(name).pool()
    assert not set(pool) & set(get_world(name).benchmark_prompts())
    hold_out(world, pool[::2], monkeypatch)
    asked, _ = instruct(source="pool", n_prompts=len(pool), world={"name": name, "seed": 0})
    assert sorted(asked) == sorted(pool[1::2])


def test_benchmark_prompts_are_no_examples(
    instruct: Instruct, examples: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = get_world("micro").pool()
    hold_out(MicroWorld, pool[:2000], monkeypatch)
    instruct(max_rounds=1)
    assert {one for shown in examples for one in shown} <= set(pool[2000:])


def test_every_completion_has_examples_of_its_own_from_all_of_the_pool(
    instruct: Instruct, examples: list[list[str]]
) -> None:
    instruct()
    pool = get_world("micro").pool()
    places = [pool.index(one) for shown in examples for one in shown]
    assert all(len(set(shown)) == 6 for shown in examples)
    assert len({tuple(shown) for shown in examples}) == len(examples) > 30  # in all rounds together
    assert sum(place < 6 for place in places) < len(places) / 20
    assert min(places) < len(pool) / 10 and max(places) > len(pool) * 9 / 10
    assert len(set(places)) > len(places) / 2


def test_another_seed_shows_other_examples_and_the_same_seed_the_same(
    instruct: Instruct, examples: list[list[str]]
) -> None:
    shown = []
    for seed in (5, 6, 5):
        instruct(seed=seed, max_rounds=1)
        shown.append({tuple(one) for one in examples})
        examples.clear()
    assert shown[0] == shown[2]
    assert not shown[0] & shown[1]


def test_without_a_world_the_pool_is_an_input_and_what_it_keeps_back_is_never_written(
    run_stage_on: RunStage, base_model_folder: Path, examples: list[list[str]]
) -> None:
    config = {name: value for name, value in CONFIG.items() if name != "world"}
    pool = get_world("micro").pool(40)

    def run(kept_back: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        files = {"pool.jsonl": pool, "held_out.jsonl": kept_back, "benchmark_prompts.jsonl": kept_back[:1]}
        made = {name: [{"prompt": text} for text in texts] for name, texts in files.items()}
        inputs = {"policy": {"model": base_model_folder}, "pool": made}
        rows, summary = run_stage_on("instruct", config, inputs, "prompts.jsonl")
        return [row["prompt"] for row in rows], summary["counts"]

    written, before = run([])
    assert {one for shown in examples for one in shown} <= set(pool)
    assert "malformed" not in before and "benchmark_prompt" not in before
    kept, counts = run([text.upper() for text in written[::2]])
    assert kept and not set(kept) & set(written[::2])
    assert counts["benchmark_prompt"] >= len(written[::2])


def test_the_first_round_is_small_and_the_next_ones_follow_its_yield(
    instruct: Instruct, examples: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aipo_lab.stages.self_instruct.FIRST_ROUND_COMPLETIONS", 10)
    instruct(n_prompts=200, max_rounds=1)
    assert len(examples) == 10


def test_a_shortfall_that_is_to_be_expected_fails_after_the_first_round(
    instruct: Instruct, examples: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aipo_lab.stages.self_instruct.FIRST_ROUND_COMPLETIONS", 40)
    with pytest.raises(StageFailed, match=r"(?s)40 prompts are wanted .*max_rounds 4; dropped: too_short \d+.*min_tok"):
        instruct(n_prompts=40, min_tokens=14, max_rounds=4, shortfall="fail")
    assert len(examples) <= 44


def test_a_shortfall_is_stated_with_what_to_change(run_stage_on: RunStage, base_model_folder: Path) -> None:
    config = CONFIG | {"n_prompts": 500, "max_rounds": 1}
    rows, summary = run_stage_on("instruct", config, {"policy": {"model": base_model_folder}}, "prompts.jsonl")
    assert summary["shortfall"] == 500 - len(rows)
    (warning,) = summary["warnings"]
    assert "500 prompts are wanted" in warning and "raise instruct.max_rounds" in warning


def test_the_official_style_asks_and_filters_by_the_official_rules(
    instruct: Instruct, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def official(chosen: Sequence[str]) -> str:
        asked.append(list(chosen))
        return official_prompt(chosen)

    monkeypatch.setattr("aipo_lab.stages.self_instruct.official_prompt", official)
    monkeypatch.setattr("aipo_lab.stages.self_instruct._cl100k_tokens", lambda text: len(text.split()))
    monkeypatch.setattr(MicroWorld, "is_instruction", lambda self, text: True)
    written, counts = instruct(style="official", min_tokens=1)
    assert asked and written
    assert all(text == text.capitalize() for text in written)
    assert counts["kept"] + counts.get("kept_cut", 0) >= len(written)


def test_near_duplicates_are_dropped_and_counted(instruct: Instruct) -> None:
    pytest.importorskip("rapidfuzz")
    _, before = instruct()
    kept, counts = instruct(near_duplicates=0.9)
    assert "near_duplicate" not in before
    assert counts["near_duplicate"] > 0
    assert len(kept) == len(set(kept))
