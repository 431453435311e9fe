"""DeepSpeed's configuration for a training: made from the recipe, or the user's own if it agrees with the recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.training.config import ParallelSettings, TrainSettings
from aipo_lab.training.deepspeed_settings import AUTO, setting_problems


def read_deepspeed(value: object) -> object:
    """The mapping in the JSON file of that name; anything that is no name is given back as it is."""
    if not isinstance(value, str):
        return value
    path = Path(value).expanduser().absolute()
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_key_once)
    except OSError as error:
        raise ValueError(f"the DeepSpeed file {path} cannot be read ({error.strerror}); check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the DeepSpeed file {path} is not valid JSON: {error}") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the DeepSpeed file gives the key {repeated!r} twice in one section; keep one")
    return values


def deepspeed_config(settings: TrainSettings, parallel: ParallelSettings) -> dict[str, Any]:
    """The configuration DeepSpeed gets; raises `UserError` naming all that contradicts the recipe.

    Accumulation is ours (`gradient_accumulation_steps` 1, boundaries set by hand), so that micro-batches may differ in
    number from step to step; optimiser and schedule are ours too unless the user names an optimiser. So is precision:
    `bf16.enabled` in a user's file is what `train.precision=bfloat16` does, products in bfloat16 over float32 weights.
    """
    user = parallel.deepspeed or {}
    if problems := contradictions(settings, parallel):
        raise UserError.from_problems("compute and train contradict each other:", problems)
    kept = {name: value for name, value in user.items() if name not in _OURS}
    optimizer = {"optimizer": _filled_optimizer(user["optimizer"], settings)} if "optimizer" in user else {}
    return {
        **_without_auto(kept),
        **optimizer,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.max_gradient_norm,
        "bf16": {**_section(user, "bf16"), "enabled": False},
        "zero_optimization": {
            **_without_auto(_section(user, "zero_optimization")),
            "stage": _stage(parallel),
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


_OURS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "optimizer",
    "scheduler",
    "bf16",
    "fp16",
    "zero_optimization",
)


def contradictions(settings: TrainSettings, parallel: ParallelSettings) -> list[str]:
    """One sentence for everything about several processes that the rest of the recipe does not allow."""
    if not parallel.parallel.startswith("zero"):
        given = f"deepspeed is given, but parallel is {parallel.parallel}; set zero2 or zero3"
        return [
            *([given] if parallel.deepspeed else []),
            *(_not_divided(settings) if parallel.parallel == "fsdp" else []),
        ]
    user = parallel.deepspeed or {}
    return [*_contradictions(user, settings, parallel), *_impossible(user, settings), *setting_problems(user)]


def _contradictions(user: Mapping[str, Any], settings: TrainSettings, parallel: ParallelSettings) -> Iterator[str]:
    optimizer = _section(user, "optimizer")
    parameters = _section(optimizer, "params")
    expected: list[tuple[str, Any, str, Any]] = [
        ("train_batch_size", user.get("train_batch_size"), "train.batch_size", settings.batch_size),
        ("gradient_clipping", user.get("gradient_clipping"), "train.max_gradient_norm", settings.max_gradient_norm),
        ("optimizer.type", optimizer.get("type"), "the optimiser is always", "AdamW"),
        ("optimizer.params.lr", parameters.get("lr"), "train.learning_rate", settings.learning_rate),
        ("optimizer.params.weight_decay", parameters.get("weight_decay"), "train.weight_decay", settings.weight_decay),
        ("optimizer.params.betas", parameters.get("betas"), "AdamW's betas are always", [0.9, 0.999]),
        ("optimizer.params.eps", parameters.get("eps"), "AdamW's eps is always", 1e-8),
        ("bf16.enabled", _section(user, "bf16").get("enabled"), "train.precision bfloat16 is", _is(settings, "bf")),
        ("fp16.enabled", _section(user, "fp16").get("enabled"), "train.precision float16 is", _is(settings, "fl")),
        (
            "zero_optimization.stage",
            _section(user, "zero_optimization").get("stage"),
            f"parallel {parallel.parallel} is stage",
            _stage(parallel),
        ),
    ]
    for name, given, rule, value in expected:
        if given is not None and given != AUTO and given != value:
            yield f"deepspeed {name} is {given!r}, but {rule} {value!r}; make them equal, or set it to {AUTO!r}"


def _impossible(user: Mapping[str, Any], settings: TrainSettings) -> Iterator[str]:
    for name in ("optimizer", "bf16", "fp16", "zero_optimization"):
        if not isinstance(user.get(name, {}), dict):
            yield f"deepspeed {name} is {user[name]!r}, but must be a section of settings; correct it or leave it out"
    if "scheduler" in user:
        yield "deepspeed scheduler: the schedule is the recipe's (train.warmup_ratio, then cosine); leave it out"
    if settings.precision == "float16":
        yield "train.precision float16 does not go with ZeRO, which skips steps that overflow; use bfloat16"
    if settings.weights != "float32" or settings.optimizer != "adamw":
        yield (
            f"train.weights {settings.weights} and train.optimizer {settings.optimizer} do not go with ZeRO, which has "
            "its own float32 weights and optimiser; use compute.parallel=data or fsdp"
        )
    if settings.lora is not None:
        yield "train.lora does not go with ZeRO: adapters are small; use compute.parallel=data"


def _not_divided(settings: TrainSettings) -> Iterator[str]:
    """What FSDP does not do here."""
    if settings.precision == "float16":
        yield "train.precision float16 does not go with fsdp, which scales no losses; use bfloat16"
    if settings.lora is not None:
        yield "train.lora does not go with fsdp: adapters are small; use compute.parallel=data"


def _is(settings: TrainSettings, prefix: str) -> bool:
    return settings.precision != "float32" and settings.precision.startswith(prefix)


def _stage(parallel: ParallelSettings) -> int:
    return int(parallel.parallel.removeprefix("zero"))


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _without_auto(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values DeepSpeed shall choose itself are left out."""
    return {name: value for name, value in values.items() if value != AUTO}


def _filled_optimizer(given: Mapping[str, Any], settings: TrainSettings) -> dict[str, Any]:
    parameters = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    return {**given, "type": "AdamW", "params": {**_without_auto(_section(given, "params")), **parameters}}
