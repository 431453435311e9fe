"""Several processes that sample with transformers, each with the whole model on a device of its own.

They share the prompts, and every completion draws from the random numbers of its own place: what is sampled does not
depend on how many there are, beyond rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aipo_lab.core.devices import VISIBLE, visible_names
from aipo_lab.core.errors import StageFailed
from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.generation.engine_process import EngineProcess, ProcessGroup

COMMAND = ("-m", "aipo_lab.generation.transformers_worker")
SILENCE_S = 600.0


class ParallelTransformers(ProcessGroup):
    """Samples in `count` processes; see `LiveEngine`."""

    def __init__(self, folder: Path, device: str, dtype: str, batch_size: int | str, count: int) -> None:
        import torch

        threads = max(1, torch.get_num_threads() // count)
        how = {
            "folder": str(folder),
            "device": "cuda" if device.startswith("cuda") else device,
            "dtype": dtype,
            "batch_size": None if batch_size == "auto" else batch_size,
            "threads": threads,
        }

        def start(number: int) -> EngineProcess:
            environment = {"OMP_NUM_THREADS": str(threads), **_own_device(number, count, device)}
            return EngineProcess(sys.executable, how, environment, COMMAND, "transformers")

        super().__init__((partial(start, number) for number in range(count)), SILENCE_S)

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
        """See `Engine.generate`. Raises `StageFailed` with the last words of a process that fails or falls silent."""
        work = {
            "n": n,
            "sampling": sampling.model_dump(mode="json"),
            "seed": seed,
            "stop": list(stop),
            "also_ends": list(also_ends),
            "logprobs": logprobs,
        }
        numbered = [[place, list(prompt)] for place, prompt in enumerate(prompts)]
        k = len(self.processes)
        answers = self.answers([{"prompts": numbered[number::k], **work} for number in range(k)], SILENCE_S)
        made = {
            answer["place"]: [Completion(**one) for one in answer["made"]]
            for answer in answers
            if answer["event"] == "completions"
        }
        if made.keys() != set(range(len(prompts))):
            raise StageFailed(f"{len(made)} of {len(prompts)} prompts were answered, and the processes say no more")
        return [made[place] for place in range(len(prompts))]


def _own_device(number: int, count: int, device: str) -> dict[str, str]:
    """What the environment of process `number` says of its device: one of those that this process sees."""
    names = visible_names()
    if names is not None and len(names) >= count:
        return {VISIBLE: names[number]}
    if not device.startswith("cuda"):
        return {}
    if names is not None:
        raise StageFailed(
            f"engine.data_parallel {count} needs {count} devices, and {VISIBLE} shows {len(names)}; lower it"
        )
    return {VISIBLE: str(number)}
