"""Settings of preference training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from aipo_lab.core.config import StrictModel
from aipo_lab.objectives import Objective, get_objective, weighted_sum
from aipo_lab.training.adapters import LoraSettings

Precision = Literal["float32", "bfloat16", "float16"]
WeightType = Literal["float32", "bfloat16"]
OptimizerName = Literal["adamw", "adamw_bf16", "adamw_8bit"]

ADDED = {"weights": "float32", "optimizer": "adamw"}
"""Settings that came later: at these values they are in no key, so that what was made before them is found."""


class TrainSettings(StrictModel):
    """What a recipe says about training. Defaults are the paper's (section 3)."""

    learning_rate: float = Field(5e-7, gt=0, description="peak learning rate of AdamW")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of steps with linear warm-up, then cosine to 0")
    batch_size: int = Field(256, ge=1, description="pairs per optimiser step; the last of an epoch may have fewer")
    epochs: int = Field(1, ge=1, le=100, description="passes over the pairs of an iteration")
    weight_decay: float = Field(0.0, ge=0, le=1, description="decoupled weight decay of AdamW")
    decay_norms_and_biases: bool = Field(
        False, description="weight decay shrinks norms and biases too; false: it spares them, as Hugging Face's does"
    )
    max_gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    max_prompt_tokens: int = Field(512, ge=1, description="pairs with a longer prompt are left out and counted")
    max_response_tokens: int = Field(2048, ge=1, description="pairs with a longer response are left out and counted")
    micro_batch_tokens: int = Field(8192, ge=1, description="tokens computed at once, padding included")
    precision: Precision = Field(
        "float32",
        description="data type of the forward pass's products; log-probabilities and sums stay in float32",
    )
    weights: WeightType = Field(
        "float32",
        description="data type of the weights in training, of their gradients and of the model that is written; "
        "bfloat16, 8 bytes a weight with adamw_bf16 instead of 16, rounds every update at random",
    )
    optimizer: OptimizerName = Field(
        "adamw",
        description="adamw: moments in float32; adamw_bf16: in bfloat16, rounded at random; adamw_8bit: in 8 bits "
        "(torchao)",
    )
    gradient_checkpointing: bool | Literal["auto"] = Field(
        False,
        description="compute activations twice instead of storing them; auto: where they would not fit into the device",
    )
    lora: LoraSettings | None = Field(None, description="train low-rank adapters only; left out: all weights")

    @model_validator(mode="after")
    def _weights_can_be_trained(self) -> TrainSettings:
        if problems := list(weight_problems(self)):
            raise ValueError("; ".join(problems))
        return self

    def key_values(self) -> dict[str, Any]:
        """The settings as a stage's key has them: see `ADDED`."""
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in ADDED or value != ADDED[name]}


def weight_problems(settings: TrainSettings) -> Iterator[str]:
    """What does not go with weights in 16 bits."""
    if settings.weights == "float32":
        return
    if settings.precision != settings.weights:
        yield (
            f"weights bfloat16 compute their products in bfloat16, but precision is {settings.precision}; "
            "set precision: bfloat16, or weights: float32"
        )
    if settings.optimizer == "adamw":
        yield (
            "weights bfloat16 need an optimizer that rounds at random, as the nearest bfloat16 of an updated weight is "
            "mostly the weight itself; set optimizer: adamw_bf16 or adamw_8bit, or weights: float32"
        )
    if settings.lora is not None:
        yield "weights bfloat16 would round merged lora adapters away; set weights: float32, or drop lora"


class SingleObjectiveSettings(StrictModel):
    """An objective with the hyperparameters of one iteration."""

    name: str = Field(description="name in the registry of objectives")
    hyperparameters: dict[str, float] = Field(description="all of its hyperparameters")

    def build(self) -> Objective:
        """The objective; raises `UserError` for a name or value that is not valid."""
        return get_objective(self.name, **dict[str, Any](self.hyperparameters))


class TermSettings(SingleObjectiveSettings):
    """One term of a weighted sum."""

    weight: float = Field(gt=0, description="factor of the term's loss")


class ObjectiveSettings(SingleObjectiveSettings):
    """An objective resolved for one iteration."""

    terms: list[TermSettings] | None = Field(None, description="terms of a weighted sum; none: the objective's own")

    def build(self) -> Objective:
        """See `SingleObjectiveSettings.build`."""
        if self.terms is None:
            return super().build()
        return weighted_sum([(term.weight, term.build()) for term in self.terms])


class TrainConfig(TrainSettings):
    """All that determines the new weights besides policy, pairs and reference."""

    seed: int = Field(description="seed of the order of the pairs and of new adapters")
    objective: ObjectiveSettings = Field(description="objective with this iteration's hyperparameters")


class ParallelSettings(StrictModel):
    """How one training is spread over devices. Results depend on it only by rounding."""

    processes: int = Field(1, ge=1, description="processes of one training on this machine, one device each")
    parallel: Literal["data", "fsdp", "zero2", "zero3"] = Field(
        "data",
        description="data: every process has the whole model; fsdp: torch divides weights, gradients and optimiser; "
        "zero2, zero3: DeepSpeed divides optimiser and gradients, zero3 the weights as well; all of them compute the "
        "same numbers",
    )
    device_gib: float | None = Field(
        None, gt=0, description="memory of a device in GiB, for plans and refusals; none: what is found, on a GPU"
    )
    deepspeed: dict[str, Any] | None = Field(
        None, description="your own DeepSpeed configuration, or the name of its JSON file; must agree with the recipe"
    )


def is_divided(parallel: ParallelSettings) -> bool:
    """Whether a reference pass too is spread over the processes, as none of them holds the whole policy."""
    return parallel.parallel == "fsdp" and parallel.processes > 1
