"""The `transformers` engine: sampling on any device transformers runs on, in the stage's own process or in several.

A batch is continuous (`aipo_lab.generation.continuous`). Every completion draws from random numbers of its own, so
which others are in the batch changes it by rounding at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from aipo_lab.generation.engine import ENGINES, Completion, Engine, EngineDefinition, EngineSettings, SamplingConfig
from aipo_lab.generation.live import live_engine
from aipo_lab.generation.parallel_transformers import ParallelTransformers
from aipo_lab.models.policy import POLICIES, Policy

BatchSize = int | Literal["auto"]


class TransformersEngineSettings(EngineSettings):
    """Sampling with transformers."""

    computing: ClassVar[frozenset[str]] = frozenset({"data_parallel"})

    name: Literal["transformers"] = Field("transformers", description="engine: transformers")
    batch_size: BatchSize = Field(
        "auto",
        exclude_if=lambda value: value == "auto",
        description="most completions decoded at once, >= 1; auto: as many as memory allows",
    )
    data_parallel: int | Literal["auto"] = Field(
        "auto",
        description="processes with a model and a device each, which share the prompts, >= 1; auto: as many as "
        "compute.processes on devices, one on the processor",
    )

    @field_validator("batch_size", "data_parallel")
    @classmethod
    def _at_least_one(cls, value: BatchSize) -> BatchSize:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1, or auto")
        return value


class TransformersEngine:
    """Samples from a policy in this process."""

    def __init__(self, policy: Policy, batch_size: BatchSize = "auto") -> None:
        self.policy = policy
        self.batch_size = batch_size

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
        """See `Engine.generate`."""
        places = range(len(prompts))
        return self.generate_at(places, prompts, n, sampling, seed, stop, also_ends, logprobs=logprobs)

    def generate_at(
        self,
        places: Sequence[int],
        prompts: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seed: int,
        stop: Sequence[str] = (),
        also_ends: Sequence[int] = (),
        *,
        logprobs: bool = False,
    ) -> list[list[Completion]]:
        """As `Engine.generate`, of prompts that stand at `places` among all that share the seed."""
        import torch

        from aipo_lab.generation.continuous.batch import ContinuousBatch
        from aipo_lab.generation.continuous.rows import Ending, Row, random_of_row

        ending = Ending(self.policy.end_token_ids | frozenset(also_ends), [*stop, *sampling.stop], self._decode)
        rows = [
            [
                Row(
                    place,
                    prompt,
                    min(sampling.max_new_tokens, self.policy.room_tokens(len(prompt))),
                    ending,
                    random_of_row(seed, place, sample),
                    logprobs=[] if logprobs else None,
                )
                for sample in range(n)
            ]
            for place, prompt in zip(places, prompts, strict=True)
        ]
        going_on = [row for samples in rows for row in samples if row.done is None]
        if going_on:
            with torch.inference_mode():
                batch = ContinuousBatch(self.policy, sampling, None if self.batch_size == "auto" else self.batch_size)
                batch.finish(going_on)
        return [[row.completion for row in samples] for samples in rows]

    def _decode(self, tokens: list[int]) -> str:
        text = self.policy.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


def _open(settings: TransformersEngineSettings, folder: Path, device: str) -> Engine:
    if isinstance(settings.data_parallel, int) and settings.data_parallel > 1:
        return _open_parallel(settings, folder, device, settings.data_parallel)
    return TransformersEngine(POLICIES.get(folder, device, settings.dtype), settings.batch_size)


def _open_parallel(settings: TransformersEngineSettings, folder: Path, device: str, count: int) -> Engine:
    key = ("transformers", settings.model_dump_json(), str(folder), device)
    return live_engine(key, lambda: ParallelTransformers(folder, device, settings.dtype, settings.batch_size, count))


ENGINES.add("transformers", EngineDefinition(settings=TransformersEngineSettings, open=_open))
