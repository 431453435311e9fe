"""What a recipe asks for and cannot have: found from the recipe and this machine alone, before any work.

Every check gives sentences that name value, rule and next step. `sweep` and `run` do all of them; `plan`, which may be
for another machine, refuses what no machine could run and tells what this one lacks; looking at the results of another
machine does none.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aipo_lab.assets.arena_hard import CL100K_BASE
from aipo_lab.assets.library import find
from aipo_lab.assets.minilm import MINILM
from aipo_lab.core.devices import find_devices
from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins
from aipo_lab.core.paths import is_there
from aipo_lab.generation import near_duplicates
from aipo_lab.generation.engine import ENGINES
from aipo_lab.models.size import known_models
from aipo_lab.pipeline.memory import stage_memory
from aipo_lab.pipeline.placement import recipe_devices
from aipo_lab.pipeline.recipe import ComputeConfig, Recipe
from aipo_lab.training.device_memory import device_gib
from aipo_lab.training.optimizers import INSTALL_LOW_BIT
from aipo_lab.worlds.world import get_world


class Problem(NamedTuple):
    """What is wrong with a setting, and the dotted keys of the others that have a part in it."""

    key: str
    text: str
    others: tuple[str, ...] = ()


Check = Callable[[Recipe], Iterator[Problem]]


def check_recipes(
    recipes: Sequence[tuple[Recipe, Origins]], source: str, checks: Sequence[Check] | None = None
) -> None:
    """Raise one `UserError` with every problem of any recipe, each once; `source` says where they were written.

    `checks`: `CHECKS`, all of them, unless others are given.
    """
    problems = {
        origins.blame_all([problem.key, *problem.others], f"{problem.key}: {problem.text}"): None
        for recipe, origins in recipes
        for check in (CHECKS if checks is None else checks)
        for problem in check(recipe)
    }
    if problems:
        raise UserError.from_problems(f"{source} cannot run:", problems)


def machine_problems(recipes: Sequence[Recipe]) -> list[str]:
    """Why this machine cannot run recipes that another could, each reason once."""
    found = {
        f"{problem.key}: {problem.text}": None
        for recipe in recipes
        for check in MACHINE_CHECKS
        for problem in check(recipe)
    }
    return list(found)


def batch_problems(recipe: Recipe) -> Iterator[Problem]:
    """Batches larger than an iteration's pairs can be, and trainings that never leave the warm-up."""
    n_pairs, train = recipe.instruct.n_prompts, recipe.train
    pool = ""
    if recipe.pairs is not None:
        return  # how many there are is known when they were read
    if recipe.instruct.source == "pool" and recipe.world is not None and recipe.prompts.source == "world":
        n_pool = len(get_world(recipe.world.name, recipe.world.seed).pool())
        pool = f", the pool holds {n_pool}"
        if recipe.instruct.draw == "slices":
            n_pool //= recipe.iterations
            pool += f", each of {recipe.iterations} slices {n_pool}"
        n_pairs = min(n_pairs, n_pool)
    n_prompts, per_prompt = n_pairs, recipe.pair.select.pairs_per_prompt
    n_pairs *= per_prompt
    if train.batch_size > n_pairs:
        yield Problem(
            "train.batch_size",
            f"{train.batch_size} pairs do not exist: {n_prompts} prompts (instruct.n_prompts{pool}) make at most "
            f"{n_pairs} pairs an iteration; lower train.batch_size or raise instruct.n_prompts",
            ("instruct.n_prompts",),
        )
        return
    n_steps = train.epochs * math.ceil(n_pairs / train.batch_size)
    warmup_steps = math.ceil(train.warmup_ratio * n_steps)
    if warmup_steps >= n_steps:
        yield Problem(
            "train.warmup_ratio",
            f"with at most {n_pairs} pairs (instruct.n_prompts), train.batch_size {train.batch_size} and train.epochs "
            f"{train.epochs} an iteration has {n_steps} optimiser step(s), all of them warm-up from a learning rate of "
            f"0, so nothing would be learnt; lower train.batch_size or train.warmup_ratio {train.warmup_ratio:g}, or "
            "raise instruct.n_prompts or train.epochs",
            ("train.batch_size", "train.epochs", "instruct.n_prompts"),
        )


def sampling_problems(recipe: Recipe) -> Iterator[Problem]:
    """Candidates that could only be copies of each other."""
    if recipe.pairs is not None:
        return  # nothing is sampled
    n, sampling = recipe.respond.n_candidates, recipe.respond.sampling
    remedy = f"so the {n} candidates (respond.n_candidates) would be {n} times the same"
    if sampling.temperature == 0:
        yield Problem("respond.sampling.temperature", f"0 always takes the likeliest token, {remedy}; raise it")
    if sampling.top_k == 1:
        yield Problem("respond.sampling.top_k", f"1 always takes the likeliest token, {remedy}; raise it, or 0 for all")


def package_problems(recipe: Recipe) -> Iterator[Problem]:
    """Optional packages that the recipe needs and this Python lacks."""
    if recipe.train.lora is not None and importlib.util.find_spec("peft") is None:
        yield Problem("train.lora", "needs the package peft; install it with: pip install 'aipo-lab[lora]'")
    if recipe.train.optimizer == "adamw_8bit" and importlib.util.find_spec("torchao") is None:
        yield Problem("train.optimizer", f"adamw_8bit needs the package torchao; install it with: {INSTALL_LOW_BIT}")
    yield from _instruct_packages(recipe)
    parallel = recipe.compute.parallel
    if parallel.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        yield Problem(
            "compute.parallel",
            f"{parallel} needs the package deepspeed; install it with: pip install 'aipo-lab[deepspeed]'",
        )


def _instruct_packages(recipe: Recipe) -> Iterator[Problem]:
    if recipe.instruct.source != "self_instruct" or recipe.pairs is not None:
        return
    if recipe.instruct.near_duplicates is not None and importlib.util.find_spec(near_duplicates.PACKAGE) is None:
        needed = f"needs the package {near_duplicates.PACKAGE}; install it with: {near_duplicates.INSTALL}"
        yield Problem("instruct.near_duplicates", needed)
    if recipe.instruct.style == "official" and importlib.util.find_spec("tiktoken") is None:
        yield Problem(
            "instruct.style",
            "official counts tokens with the package tiktoken; install it with: pip install 'aipo-lab[benchmarks]'",
        )
    if recipe.instruct.style == "official":
        try:
            find(CL100K_BASE.name)
        except UserError as error:
            yield Problem("instruct.style", f"official counts cl100k tokens: {error}")


def analysis_problems(recipe: Recipe) -> Iterator[Problem]:
    """The sentence encoder of the pair analysis, where it is not here."""
    if recipe.analysis is None or recipe.analysis.similarity != "sentence":
        return
    try:
        find(MINILM.name)
    except UserError as error:
        yield Problem("analysis.similarity", f"sentence compares vectors: {error}; or set analysis.similarity=words")


def engine_problems(recipe: Recipe) -> Iterator[Problem]:
    """What keeps the generation engine from work on this machine."""
    engine = ENGINES.get(recipe.engine.name)
    for text in engine.problems(recipe.engine):
        yield Problem("engine", text)
    if engine.fixed_weights:
        yield Problem(
            "engine.name",
            f"{recipe.engine.name} samples from the weights that a server loaded, and iterations train new ones; use "
            "transformers or vllm here, and this engine for `aipo-lab evaluate`",
        )


def device_problems(recipe: Recipe) -> Iterator[Problem]:
    """A device that this machine lacks or has too few of, or that cannot compute in the recipe's data types."""
    compute = recipe.compute
    if compute.device == "cpu" and compute.devices == "auto":
        return  # torch, which takes seconds to import, need not be asked; a CPU takes any number of processes
    known = list(_unknown_devices(compute))
    yield from known or _too_few_devices(recipe)
    if compute.device != "cpu" and not known:
        yield from _dtype_problems(recipe)


def _unknown_devices(compute: ComputeConfig) -> Iterator[Problem]:
    """Devices that are named and are not here."""
    name, told = compute.device, None if compute.devices == "auto" else compute.devices
    if name == "cpu":
        return  # a rehearsal: the names are only divided
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        yield Problem("compute.device", f"{name!r} is no torch device; valid: cpu, cuda, cuda:0, cuda:1, …, mps")
        return
    if device.type != "cuda":
        if told is not None:
            yield Problem("compute.devices", f"names CUDA devices, but compute.device is {name}; leave one of them out")
        if device.type != "cpu" and not _has_backend(torch, device.type):
            yield Problem("compute.device", f"{name}: torch finds no {device.type} device here; use compute.device=cpu")
        return
    found = [one.name for one in find_devices()]
    if not found:
        yield Problem("compute.device", f"{name}: no cuda device is found here; use compute.device=cpu")
    elif told is not None and device.index is not None:
        yield Problem("compute.devices", f"says which, and so does compute.device {name}; use compute.device=cuda")
    elif told is not None and (missing := [one for one in told if one not in found]):
        yield Problem("compute.devices", f"{', '.join(missing)} is not here; found: {', '.join(found)}")
    elif device.index is not None and device.index >= len(found):
        yield Problem(
            "compute.device", f"{name}: the {len(found)} cuda devices here are numbered from 0 to {len(found) - 1}"
        )


def _too_few_devices(recipe: Recipe) -> Iterator[Problem]:
    """Stages that need more devices at once than there are."""
    compute, engine = recipe.compute, recipe.engine.how()
    names = [one.name for one in recipe_devices(compute)]
    if not names:
        return
    here = f"there {'is' if len(names) == 1 else 'are'} {len(names)} ({', '.join(names)})"
    if compute.processes > len(names):
        yield Problem(
            "compute.processes",
            f"{compute.processes} processes need a device each, but {here}; lower it",
            ("compute.device", "compute.devices"),
        )
    size, side_by_side = engine.get("tensor_parallel") or 1, engine.get("data_parallel") or 1
    side_by_side = compute.processes if side_by_side == "auto" else side_by_side
    of_engine = size * side_by_side
    if of_engine > max(len(names), compute.processes):
        yield Problem(
            "engine.data_parallel",
            f"{side_by_side} engines of {size} devices each (engine.tensor_parallel) need {of_engine}, but {here}; "
            "lower them",
            ("engine.tensor_parallel", "compute.device", "compute.devices"),
        )


def _dtype_problems(recipe: Recipe) -> Iterator[Problem]:
    """Data types that the device cannot compute in."""
    name = recipe.compute.device
    if not name.startswith("cuda"):
        return
    import torch

    wanted = {"engine.dtype": recipe.engine.dtype, "train.precision": recipe.train.precision}
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        for key in (key for key, dtype in wanted.items() if dtype == "bfloat16"):
            yield Problem(
                key, f"bfloat16 is not what {name} can compute with; use float16 or float32", ("compute.device",)
            )


def _has_backend(torch: Any, kind: str) -> bool:
    """Whether torch can use a device of a kind other than CUDA."""
    if kind == "mps":
        return bool(torch.backends.mps.is_available())
    backend: Any = getattr(torch, kind, None)
    return hasattr(backend, "device_count") and backend.is_available() and backend.device_count() > 0


def memory_problems(recipe: Recipe) -> Iterator[Problem]:
    """Stages that need more than the memory of a device of this machine, or of `compute.device_gib`."""
    compute = recipe.compute
    gib = device_gib(compute.device, compute)
    if gib is None:
        return
    for stage in stage_memory(recipe, _model_folder(recipe.model.source), gib):
        if stage.problem is not None:
            yield Problem("compute.device", stage.problem, ("compute.device_gib", "model.source"))


def position_problems(recipe: Recipe) -> Iterator[Problem]:
    """Prompts and responses that together are longer than the model's positions, where these are known."""
    n_positions = _positions(recipe.model.source)
    if n_positions is None:
        return
    has = f"the {n_positions} positions of model.source {recipe.model.source}"
    prompt, response = recipe.respond.max_prompt_tokens, recipe.respond.sampling.max_new_tokens
    if prompt + response > n_positions and recipe.pairs is None:
        yield Problem(
            "respond.max_prompt_tokens",
            f"prompts of {prompt} tokens and responses of {response} (respond.sampling.max_new_tokens) are more than "
            f"{has}; lower one of the two",
            ("respond.sampling.max_new_tokens", "model.source"),
        )
    for name, settings in recipe.benchmarks.embedded().items():
        cap = settings.sampling.max_new_tokens
        if cap >= n_positions:
            key = f"benchmarks.{name}.sampling.max_new_tokens"
            yield Problem(key, f"{cap} leaves no room for a prompt in {has}; lower it", ("model.source",))


def _positions(source: str) -> int | None:
    """The positions of a base model; None where there is no limit or the model is not here yet."""
    if source == "micro":
        from aipo_lab.worlds.micro.base_model import MAX_POSITIONS

        return MAX_POSITIONS
    folder = _model_folder(source)
    if folder is None:
        shape = known_models().get(source)
        return None if shape is None else shape.positions
    return model_positions(folder)


def model_positions(folder: Path) -> int | None:
    """The longest sequence the model of a folder was made for, in tokens; None where its config.json has no limit."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # the check of the model folder says what is wrong with it
    text = config.get("text_config", config) if isinstance(config, dict) else {}
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    found = [text.get(name) for name in names] if isinstance(text, dict) else []
    return next((limit for limit in found if isinstance(limit, int) and limit > 0), None)


def _model_folder(source: str) -> Path | None:
    """The folder of a base model that is on this machine already; None for one that is made or fetched first."""
    from aipo_lab.assets.library import find

    if source == "micro":
        return None
    try:
        return find(source)
    except UserError:  # no asset, or not fetched
        return Path(source) if is_there(Path(source)) and Path(source).is_dir() else None


RECIPE_CHECKS: tuple[Check, ...] = (batch_problems, sampling_problems, position_problems)
"""What no machine could run."""
MACHINE_CHECKS: tuple[Check, ...] = (
    package_problems,
    analysis_problems,
    engine_problems,
    device_problems,
    memory_problems,
)
"""What this machine cannot run."""
CHECKS: tuple[Check, ...] = (*RECIPE_CHECKS, *MACHINE_CHECKS)
