"""The model that a folder's config.json describes, built by transformers without memory, against the weights."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aipo_lab.models.model_folder.files import read_object
from aipo_lab.models.model_folder.weights import Shape, Weights

LAYER = re.compile(r"^(?P<stack>.*\.(?:layers|h|blocks))\.(?P<number>\d+)\.(?P<rest>.+)$")
SHOWN = 4


@dataclass(frozen=True)
class Architecture:
    """`vocabulary`: tokens the model has embeddings for, None if that is unknown; `config`: transformers' own."""

    config: Any = None
    vocabulary: int | None = None
    problems: list[str] = field(default_factory=list)


def read_architecture(folder: Path, weights: Weights) -> Architecture:
    """The architecture of a folder whose config.json is whole; weights with problems are not compared with it."""
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    values, _ = read_object(folder / "config.json")
    assert values is not None, "the caller looks for a whole config.json first"
    kind = values["model_type"]
    if kind not in CONFIG_MAPPING:
        return Architecture(problems=[_unknown(kind, values, transformers.__version__)])
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
        except Exception as error:  # whatever a wrong value sets off there, loading would set off too
            return Architecture(problems=[f"config.json is not valid for {kind!r}: {reason_of(error)}"])
        if type(config) not in AutoModelForCausalLM._model_mapping:
            return Architecture(problems=[f"model_type {kind!r} is not a causal language model, which writes text"])
        if weights.problems or not weights.shapes:
            return Architecture(config, getattr(config.get_text_config(), "vocab_size", None))
        return _dry_load(config, weights.shapes)


def _dry_load(config: Any, shapes: Mapping[str, Shape]) -> Architecture:
    """Load tensors that have shapes but no content, as transformers loads a file's: renamed, merged, tied alike."""
    import torch
    from transformers import AutoModelForCausalLM

    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    try:
        model, report = AutoModelForCausalLM._model_mapping[type(config)].from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # as above: the same call with the weights' content would fail alike
        return Architecture(config, problems=[f"transformers cannot build the model: {reason_of(error)}"])
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    problems = [
        f"the weights' {name} has shape {list(in_file)}, but by config.json it is {list(in_model)}"
        for name, in_file, in_model in sorted(report["mismatched_keys"])
    ]
    if len(problems) > SHOWN:
        problems[SHOWN:] = [f"{len(problems) - SHOWN} more tensors have other shapes than config.json says"]
    missing = sorted(report["missing_keys"])
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (" and more" if len(missing) > SHOWN else "")
        problems.append(
            f"the weights lack {len(missing)} tensors, which would be random numbers: {shown}; fetch them again"
        )
    return Architecture(config, vocabulary, problems + _surplus_layers(shapes, report["unexpected_keys"]))


def _surplus_layers(shapes: Mapping[str, Shape], unused: set[str]) -> list[str]:
    """Whole layers in the file that the config leaves out; a layer of another make (for drafting, say) is none."""
    layers: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in shapes:
        if found := LAYER.match(name):
            layers[found["stack"]][int(found["number"])].add(found["rest"])
    problems = []
    for stack, by_number in sorted(layers.items()):
        used = {
            number for number, rest in by_number.items() if not all(f"{stack}.{number}.{one}" in unused for one in rest)
        }
        surplus = [
            number for number in by_number if number not in used and by_number[number] in map(by_number.get, used)
        ]
        if surplus:
            problems.append(
                f"the weights hold {len(by_number)} layers ({stack}.0 to .{max(by_number)}), "
                f"but by config.json only {len(used)} would be used"
            )
    return problems


def _unknown(kind: str, config: Mapping[str, Any], version: str) -> str:
    if config.get("auto_map"):
        return (
            f"model_type {kind!r} runs Python code that comes with the model (auto_map in config.json), which is never "
            f"done here, and transformers {version} has none of its own; give a model of a type it knows"
        )
    return f"model_type {kind!r} is unknown to the installed transformers {version}; upgrade it or give another model"


def reason_of(error: Exception) -> str:
    """The kind of an exception and the first lines of its text, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}"[:400]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from printing: what it warns of is in its report and becomes a problem."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
