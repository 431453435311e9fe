"""GiB that a training or a reference pass takes on one device, reckoned from the model's shape before it is loaded.

Bytes of weights, gradients and moments follow from the settings; those of activations were counted tensor by tensor
on Llama models (`perf/training_memory.py` holds the sum against what a process takes). A micro-batch is taken to be as
long as the settings allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aipo_lab.models.size import ModelShape
from aipo_lab.training.config import ParallelSettings, TrainSettings, is_divided

GIB = 2**30
CHUNK_LOGITS = 3 << 24
"""As in `token_logps`, which importing would load torch."""
UPDATE_CHUNK_BYTES = 5 * 4 * (1 << 24)
"""What the chunks of `StochasticAdamW` take."""
DEEPSPEED_BUCKETS_BYTES = 2 * 4 * 5 * 10**8
"""ZeRO's two buckets of gradients on their way, 5e8 numbers each by default."""
CONTEXT_GIB = {"cuda": 0.75}
"""What a GPU's context and libraries take of its memory (assumption; a CPU's process is no part of the plan)."""
USABLE = 0.95
"""The share of a device that can be planned for; the rest is what allocation in pieces loses."""

BYTES = {"float32": 4, "bfloat16": 2}
MOMENT_BYTES = {"adamw": 8, "adamw_bf16": 4, "adamw_8bit": 2}


@dataclass(frozen=True)
class Model:
    """What the plan needs of a model: its shape, and its parameters where they are known better than from the shape."""

    shape: ModelShape
    parameters: int

    @property
    def embeddings(self) -> int:
        """Numbers in the embedding and the head."""
        return self.shape.vocabulary * self.shape.hidden * (1 if self.shape.tied else 2)

    @property
    def layer(self) -> float:
        """Numbers in a layer."""
        return (self.parameters - self.embeddings) / self.shape.layers


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they hold; all of it is there at once at the worst moment."""

    parts: dict[str, float]

    @property
    def gib(self) -> float:
        """Their sum."""
        return sum(self.parts.values()) / GIB

    def fits(self, device_gib: float) -> bool:
        """Whether it fits into a device's memory."""
        return self.gib <= USABLE * device_gib

    def __str__(self) -> str:
        listed = sorted(self.parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {value / GIB:.1f}" for name, value in listed if value / GIB >= 0.05)


def plan_training(
    model: Model, settings: TrainSettings, parallel: ParallelSettings, device: str = "cuda", checkpointing: bool = True
) -> MemoryPlan:
    """The most a training holds on one device; `checkpointing` is what gradient checkpointing `auto` stands for."""
    n, divided = model.parameters, _divided(parallel)
    weight, moments = BYTES[settings.weights], MOMENT_BYTES[settings.optimizer]
    copies = 4 if parallel.parallel.startswith("zero") else 0  # ZeRO updates float32 weights of its own
    trained = _trained(model, settings)
    parts = {
        "weights": n * weight / divided["weights"] + copies * n / divided["moments"],
        "gradients": trained * weight / divided["gradients"],
        "moments": trained * moments / divided["moments"],
        "gathered": _gathered(model, weight, parallel, with_gradients=True),
        "activations": _activations(model, settings, checkpointing),
        "working": _working(model, settings),
        "context": GIB * CONTEXT_GIB.get(device.split(":")[0], 0.0),
    }
    return MemoryPlan(parts)


def plan_reference(
    model: Model, settings: TrainSettings, parallel: ParallelSettings, device: str = "cuda"
) -> MemoryPlan:
    """The most a reference pass holds on one device: weights, and one layer at work."""
    weight = BYTES[settings.weights]
    parts = {
        "weights": model.parameters * weight / (parallel.processes if is_divided(parallel) else 1),
        "gathered": _gathered(model, weight, parallel, with_gradients=False) if is_divided(parallel) else 0.0,
        "activations": _layer_bytes(model.shape, settings) * micro_batch_tokens(settings),
        "working": 8 * min(CHUNK_LOGITS, model.shape.vocabulary * micro_batch_tokens(settings)),
        "context": GIB * CONTEXT_GIB.get(device.split(":")[0], 0.0),
    }
    return MemoryPlan(parts)


def shards_weights(parallel: ParallelSettings) -> bool:
    """Whether no process has the whole model."""
    return parallel.parallel in ("fsdp", "zero3")


def micro_batch_tokens(settings: TrainSettings) -> int:
    """The most tokens computed at once: a pair longer than a micro-batch has one of its own."""
    return max(settings.micro_batch_tokens, settings.max_prompt_tokens + 2 * settings.max_response_tokens)


LIGHT = {"precision": "bfloat16", "weights": "bfloat16", "optimizer": "adamw_bf16"}
"""What halves the bytes of a weight at the price of other numbers."""


def remedy(
    model: Model,
    settings: TrainSettings,
    parallel: ParallelSettings,
    device: str,
    device_gib: float,
    most_processes: int = 1024,
) -> str:
    """Settings with which a training and its reference fit, in words.

    First those that compute the same numbers, then weights in bfloat16 if they need fewer devices.
    """
    found: dict[int, str] = {}
    for light in ({}, LIGHT) if settings.lora is None else ({},):
        for of_train, of_compute in _savings(settings, parallel, most_processes):
            changed = settings.model_copy(update=of_train | light)
            spread = parallel.model_copy(update=of_compute)
            plan = plan_training(model, changed, spread, device)
            if plan.fits(device_gib) and plan_reference(model, changed, spread, device).fits(device_gib):
                texts = [f"train.{name}={_text(value)}" for name, value in (of_train | light).items()]
                texts += [f"compute.{name}={value}" for name, value in of_compute.items()]
                if spread.processes < min(found, default=most_processes + 1):
                    found[spread.processes] = f"{' '.join(texts)} would need {plan.gib:.1f} GiB"
                break
    return ", and ".join(found.values()) or "no setting makes it fit; use larger devices or a smaller model"


def _savings(
    settings: TrainSettings, parallel: ParallelSettings, most_processes: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Changes of `train` and `compute` that take less and less memory."""
    train: dict[str, Any] = {} if settings.gradient_checkpointing else {"gradient_checkpointing": True}
    compute: dict[str, Any] = {}
    yield train, compute
    longest = settings.max_prompt_tokens + 2 * settings.max_response_tokens
    if settings.micro_batch_tokens > longest:
        train = train | {"micro_batch_tokens": longest}
        yield train, compute
    if settings.lora is not None:
        return
    compute = {} if parallel.parallel == "fsdp" else {"parallel": "fsdp"}
    processes = parallel.processes
    yield train, compute
    while (processes := processes * 2) <= most_processes:
        yield train, compute | {"processes": processes}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _divided(parallel: ParallelSettings) -> dict[str, int]:
    """Among how many processes each part is divided."""
    n, kind = parallel.processes, parallel.parallel
    return {
        "weights": n if shards_weights(parallel) else 1,
        "gradients": 1 if kind == "data" else n,
        "moments": 1 if kind == "data" else n,
    }


def _trained(model: Model, settings: TrainSettings) -> float:
    """Numbers that learn: all, or those of the adapters, two of rank r at each matrix of a layer."""
    if settings.lora is None:
        return model.parameters
    shape = model.shape
    of_heads = shape.head_dim * (shape.heads + shape.kv_heads)
    widths = 4 * shape.hidden + 2 * of_heads + 3 * (shape.hidden + shape.mlp)
    return settings.lora.rank * shape.layers * widths


def _gathered(model: Model, weight: int, parallel: ParallelSettings, with_gradients: bool) -> float:
    """What sharded weights take while they are whole: embedding and head, and two layers; then their gradients."""
    if not shards_weights(parallel):
        return DEEPSPEED_BUCKETS_BYTES if with_gradients and parallel.parallel == "zero2" else 0.0
    whole = (model.embeddings + 2 * model.layer) * weight
    if not with_gradients:
        return whole
    if parallel.parallel == "zero3":
        return whole + 4 * model.embeddings + DEEPSPEED_BUCKETS_BYTES
    return whole + (weight + 4) * max(model.embeddings, 2 * model.layer)  # a gradient, and in float32 on its way


def _layer_bytes(shape: ModelShape, settings: TrainSettings) -> float:
    """Bytes that a layer keeps of a token for its gradient. Attention gathers every response with its prompt."""
    prompt, response = settings.max_prompt_tokens, settings.max_response_tokens
    attended = min(2.0, 2 * (prompt + response) / (prompt + 2 * response))
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if settings.precision == "float32":
        return 16 * shape.hidden + 8 * shape.mlp + (4 + 8 * attended) * queries + 8 * attended * keys
    return 26 * shape.hidden + 8 * shape.mlp + (2.5 + 4 * attended) * queries + 4 * attended * keys


def _activations(model: Model, settings: TrainSettings, checkpointing: bool) -> float:
    shape, tokens = model.shape, micro_batch_tokens(settings)
    layer = _layer_bytes(shape, settings)
    cast = 2 * model.layer if settings.precision != settings.weights and settings.precision != "float32" else 0.0
    ends = 8 * shape.hidden * tokens
    if settings.gradient_checkpointing is True or (settings.gradient_checkpointing == "auto" and checkpointing):
        return (4 * shape.hidden * shape.layers + layer) * tokens + cast + ends
    return (layer * tokens + cast) * shape.layers + ends


def _working(model: Model, settings: TrainSettings) -> float:
    """The larger of what the head, a layer's gradient and an update need beside all that is kept."""
    shape, tokens = model.shape, micro_batch_tokens(settings)
    number = 4 if settings.precision == "float32" else 2
    head = (4 if number == 4 else 8) * min(CHUNK_LOGITS, shape.vocabulary * tokens)
    if number == 2:  # the head's gradient is made anew in float32 and added
        head += 4 * shape.vocabulary * shape.hidden
    layer = 5 * number * shape.mlp * tokens
    update = min(UPDATE_CHUNK_BYTES, 20 * model.embeddings) if settings.optimizer == "adamw_bf16" else 0
    return float(max(head, layer, update))
