"""Reading a model folder's weights piece by piece, and writing them file by file: no process holds them all.

Raises `StageFailed` for a folder whose tensors have other names than the model's parameters: transformers renames or
merges those while loading, which a piece of a tensor cannot be.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import write_json
from aipo_lab.models.model_folder.weights import INDEX, WEIGHTS
from aipo_lab.models.policy import Policy, load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

MOST_FILE_BYTES = 5 * 10**9
"""A file of a written model is not larger, unless one tensor is."""


class WeightFiles:
    """The tensors in the safetensors files of a model folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / WEIGHTS).is_file():
            self._file_of = dict.fromkeys(self._names(WEIGHTS), WEIGHTS)
        else:
            self._file_of = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` (without it) of the tensor called `name`; nothing else is read."""
        with self._open(self._file_of[name]) as file:
            part: Tensor = file.get_slice(name)[start:stop]
        return part

    def check_names(self, names: Iterable[str]) -> None:
        """Raise `StageFailed` unless all tensors called so are in the files."""
        missing = [name for name in names if name not in self._file_of]
        if missing:
            raise StageFailed(
                f"the model in {self.folder} cannot be read in parts, as {len(missing)} of its parameters have other "
                f"names in its files ({', '.join(missing[:3])}, …); use compute.parallel=data or zero2"
            )

    def _names(self, file: str) -> list[str]:
        with self._open(file) as opened:
            return list(opened.keys())

    def _open(self, file: str) -> Any:
        from safetensors import safe_open

        return safe_open(self.folder / file, framework="pt")


def empty_policy(folder: Path, dtype: str) -> Policy:
    """The policy of a folder with its parameters on torch's `meta` device: shapes without memory. Buffers are real."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(str(folder))
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.tie_weights()
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return Policy(model.eval(), load_tokenizer(folder))


def write_model(folder: Path, model: Any, tensors: Iterable[tuple[str, Tensor]], writes: bool) -> None:
    """Write a model as transformers does, in the data type of `tensors`; a file leaves memory before the next fills.

    `writes`: whether this process writes; the others only take part in what makes the tensors.
    """
    import torch

    dtype = torch.float32
    place: dict[str, int] = {}
    n_files = 0
    for group in _groups(tensors, writes):
        folder.mkdir(parents=True, exist_ok=True)
        dtype = next(iter(group.values())).dtype
        place |= dict.fromkeys(group, n_files)
        _save(group, folder / f"part-{n_files}")
        n_files += 1
        group.clear()
    if not writes:
        return
    _name_files(folder, place, n_files)
    model.config.dtype = dtype
    model.config.save_pretrained(str(folder))
    model.generation_config.save_pretrained(str(folder))


def _groups(tensors: Iterable[tuple[str, Tensor]], writes: bool) -> Iterator[dict[str, Tensor]]:
    """Tensors by file; nothing where this process does not write."""
    group: dict[str, Tensor] = {}
    n_bytes = 0
    for name, tensor in tensors:
        if not writes:
            continue
        if group and n_bytes + tensor.nbytes > MOST_FILE_BYTES:
            yield group
            group, n_bytes = {}, 0
        group[name] = tensor
        n_bytes += tensor.nbytes
    if group:
        yield group


def _save(group: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(group, path, metadata={"format": "pt"})


def _name_files(folder: Path, place: dict[str, int], n_files: int) -> None:
    """Give the parts the names that transformers looks for, with an index if there are several."""
    names = [f"model-{number + 1:05d}-of-{n_files:05d}.safetensors" for number in range(n_files)]
    names = names if n_files > 1 else [WEIGHTS]
    for number, name in enumerate(names):
        (folder / f"part-{number}").rename(folder / name)
    if n_files > 1:
        n_bytes = sum((folder / name).stat().st_size for name in names)
        index = {"metadata": {"total_size": n_bytes}, "weight_map": {name: names[at] for name, at in place.items()}}
        write_json(folder / INDEX, index)
