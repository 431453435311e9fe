"""Engines in processes of their own: one is kept for the same weights, and gone when others or a training need room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.generation.live import live_engine, stop_live_engines
from aipo_lab.models.policy import POLICIES, Policy
from aipo_lab.stages.definition import MEMORY_STAGES, StageNode, get_stage, run_stage


class Tenant:
    """Lives until it is stopped."""

    def __init__(self) -> None:
        self.is_alive = True

    def stop(self) -> None:
        self.is_alive = False

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seed: int,
        stop: Sequence[str] = (),
        also_ends: Sequence[int] = (),
        *,
        logprobs: bool = False,
    ) -> list[list[Completion]]:
        return []


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    stop_live_engines()


def test_the_same_weights_get_the_same_engine_and_others_its_place() -> None:
    first = live_engine("a", Tenant)
    assert live_engine("a", Tenant) is first
    second = live_engine("b", Tenant)
    assert (first.is_alive, second.is_alive) == (False, True)
    again = live_engine("a", Tenant)
    assert again is not first and not second.is_alive


def test_policies_in_memory_make_room_for_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    POLICIES.put(tmp_path, "cpu", "float32", Policy(None, None))
    held: list[int] = []
    live_engine("a", lambda: held.append(len(POLICIES._policies)) or Tenant())  # type: ignore[func-returns-value]
    assert held == [0]


def test_one_that_died_is_replaced() -> None:
    first = live_engine("a", Tenant)
    first.is_alive = False
    assert live_engine("a", Tenant) is not first


def test_one_that_cannot_start_leaves_the_place_empty() -> None:
    def fail() -> Tenant:
        raise RuntimeError("no memory")

    first = live_engine("a", Tenant)
    with pytest.raises(RuntimeError):
        live_engine("b", fail)
    assert not first.is_alive
    assert live_engine("b", Tenant).is_alive


@pytest.mark.parametrize("stage", [*MEMORY_STAGES, "pair"])
def test_a_stage_that_needs_the_memory_finds_it_free(
    stage: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = live_engine("a", Tenant)
    seen: list[bool] = []

    def run(context: Any) -> dict[str, Any]:
        seen.append(tenant.is_alive)
        return {}

    definition = get_stage(stage)
    monkeypatch.setattr("aipo_lab.stages.definition.get_stage", lambda name: replace_run(definition, run))
    configs: dict[str, dict[str, Any]] = {
        "train": {"seed": 0, "objective": {"name": "dpo", "hyperparameters": {}}},
        "train_reward": {"seed": 0, "max_tokens": 8, "chat": {}},
    }
    run_stage(StageNode(ArtifactRequest(stage, 1, configs.get(stage, {}), {})), store, lambda *_: None)
    assert seen == [stage not in MEMORY_STAGES]


def replace_run(definition: Any, run: Any) -> Any:
    from dataclasses import replace

    return replace(definition, run=run)
