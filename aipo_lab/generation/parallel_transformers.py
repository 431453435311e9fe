"""Several processes that sample with transformers, each with the whole model on a device of its own.

They share the prompts, and every completion draws from the random numbers of its own place: what is sampled does not
depend on how many there are, beyond rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from aipo_lab.core.devices import VISIBLE, visible_names
from aipo_lab.core.errors import StageFailed
from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.generation.vllm_process import VllmProcess

COMMAND = ("-m", "aipo_lab.generation.transformers_worker")
SILENCE_S = 600.0


class ParallelTransformers:
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
        self.processes: list[VllmProcess] = []
        try:
            for number in range(count):
                environment = {"OMP_NUM_THREADS": str(threads), **_own_device(number, count, device)}
                started = VllmProcess(sys.executable, how, environment, COMMAND, "transformers")
                self.processes.append(started)
            for process in self.processes:
                list(process.answers("ready", SILENCE_S, "loading the model"))
        except BaseException:
            self.stop()
            raise

    @property
    def is_alive(self) -> bool:
        """See `LiveEngine.is_alive`."""
        return bool(self.processes) and all(process.is_alive for process in self.processes)

    def stop(self) -> None:
        """See `LiveEngine.stop`."""
        while self.processes:
            self.processes.pop().stop()

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
        made: dict[int, list[Completion]] = {}
        try:
            for number, process in enumerate(self.processes):
                process.ask({"prompts": numbered[number :: len(self.processes)], **work})
            for process in self.processes:
                for answer in process.answers("done", SILENCE_S, "generating"):
                    if answer["event"] == "completions":
                        made[answer["place"]] = [Completion(**one) for one in answer["made"]]
        except BaseException:  # what the processes still say would be taken for the next work's answers
            self.stop()
            raise
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
