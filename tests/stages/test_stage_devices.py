"""How many devices a stage holds: what asks a server holds none, a trial generates on as many as it trains on."""

from __future__ import annotations

from typing import Any

import pytest

from aipo_lab.core.store import ArtifactRequest
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.stages.definition import JudgingRuntime, Runtime, StageNode
from aipo_lab.stages.devices import Demand, data_parallel_of, demand_of, devices_used
from aipo_lab.training.config import ParallelSettings

TWO = ParallelSettings(processes=2)
VLLM = {"engine": {"name": "vllm"}}
HOW = {"tensor_parallel": 2, "data_parallel": 3}


def judged_by(engine: str) -> Runtime:
    judge = JudgeSettings(engine=engine, model="/m" if engine == "local" else "a-model")  # type: ignore[arg-type]
    return Runtime(judging=JudgingRuntime(settings=judge, calls="/c", ledger="/l"))


@pytest.mark.parametrize(
    ("stage", "config", "runtime", "expected"),
    [
        ("train", {}, Runtime(parallel=TWO), 2),
        ("reference", {}, Runtime(parallel=TWO), 1),
        ("rank", {}, Runtime(), 1),
        ("ema", {}, Runtime(), 1),
        ("pair", {}, Runtime(), 0),
        ("judge", {}, Runtime(), 0),
        ("respond", VLLM, Runtime(engine=HOW), 6),
        ("instruct", {"source": "pool", **VLLM}, Runtime(engine=HOW), 0),
        ("answer_official", {"engine": {"name": "openai"}}, Runtime(device="cuda"), 0),
        ("respond", {"engine": {"name": "transformers"}}, Runtime(), 1),
        ("judge_official", {}, judged_by("openai"), 0),
        ("judge_official", {}, judged_by("local"), 1),
        ("judge_official", {}, Runtime(), 0),
    ],
)
def test_what_a_stage_holds(stage: str, config: dict[str, Any], runtime: Runtime, expected: int) -> None:
    assert devices_used(stage, config, runtime) == expected


def test_generation_takes_as_many_devices_as_the_training_where_there_are_any() -> None:
    auto = {"data_parallel": "auto"}
    for runtime, expected in [
        (Runtime(parallel=TWO, engine=auto), 1),
        (Runtime(parallel=TWO, engine=auto, device="cuda"), 2),
        (Runtime(parallel=TWO, engine=auto, devices=["a", "b"]), 2),
    ]:
        assert data_parallel_of(runtime) == expected
        assert devices_used("respond", {"engine": {"name": "transformers"}}, runtime) == expected


def test_nothing_is_demanded_where_nothing_is_placed() -> None:
    request = ArtifactRequest("train", 0, {}, {})
    assert demand_of(StageNode(request, Runtime(parallel=TWO))) == Demand(0, ())
    assert demand_of(StageNode(request, Runtime(parallel=TWO, devices=["a", "b"]))) == Demand(2, ("a", "b"))
