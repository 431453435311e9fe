"""The weight files of a model folder: which of them loading reads, and what their headers say.

A safetensors file begins with the length of its header (8 bytes) and the header, JSON that gives every tensor's name,
number format, shape and place. The safetensors library reads and checks it; the tensors themselves stay on disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from aipo_lab.models.model_folder.files import lfs_size, read_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)\.safetensors$")
SHOWN = 4
"""Names listed of a longer series."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """The shapes of all tensors that loading finds, by name, and what is wrong; with problems, shapes are partial."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_weights(folder: Path) -> Weights:
    """The tensors of the files that transformers loads: one file if it is there, else the shards of the index."""
    named = (read_object(folder / "config.json")[0] or {}).get("transformers_weights")
    if isinstance(named, str):
        return _read_index(folder, named) if named.endswith(".index.json") else _read_files(folder, [named])
    if (folder / WEIGHTS).is_file() or (folder / WEIGHTS).is_symlink():
        return _read_files(folder, [WEIGHTS])
    if (folder / INDEX).is_file() or (folder / INDEX).is_symlink():
        return _read_index(folder, INDEX)
    return Weights(problems=[_absence(folder)])


def _read_files(folder: Path, names: list[str]) -> Weights:
    weights = Weights()
    for name in names:
        shapes, problem = _read_header(folder / name)
        weights.shapes.update(shapes)
        weights.problems.extend([problem] if problem else [])
    return weights


def _read_header(path: Path) -> tuple[dict[str, Shape], str | None]:
    """The shapes in one file by tensor name, or none and what is wrong with it."""
    from safetensors import SafetensorError, safe_open

    if lfs_size(path) is not None or (path.is_symlink() and not path.exists()):
        return {}, None  # files.py reports it
    if not path.is_file():
        return {}, f"{path.name} is {'a folder' if path.is_dir() else 'missing'}"
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, None  # noqa: SIM118
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
    except OSError as error:
        reason = str(error)
    size_bytes = path.stat().st_size
    return {}, f"{path.name} ({size_bytes} bytes) is cut off or damaged ({reason}); fetch it again"


def _read_index(folder: Path, index: str) -> Weights:
    values, _ = read_object(folder / index)
    if values is None:
        reason = read_object(folder / index)[1]
        return Weights(problems=[f"{index} {reason}"] if reason else [])
    places = values.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        return Weights(problems=[f"{index} has no weight_map from tensors to files; fetch it again"])
    shards = sorted(set(places.values()))
    outside = [name for name in shards if Path(name).name != name]
    if outside:
        return Weights(problems=[f"{index} names files outside the folder: {_some(outside)}"])
    missing = [name for name in shards if not (folder / name).is_file() and not (folder / name).is_symlink()]
    weights = _read_files(folder, [name for name in shards if name not in missing])
    if missing:
        weights.problems.append(
            f"{len(missing)} of the {len(shards)} files that {index} names are missing: {_some(missing)}; fetch them"
        )
    elif not weights.problems and not any(lfs_size(folder / name) is not None for name in shards):
        weights.problems.extend(_index_problems(folder, index, places, weights.shapes))
    return weights


def _index_problems(folder: Path, index: str, places: dict[str, str], shapes: dict[str, Shape]) -> list[str]:
    """Where the index and the whole shards beside it contradict each other."""
    problems = []
    absent = sorted(set(places) - set(shapes))
    if absent:
        problems.append(
            f"{index} names {len(absent)} tensors that no file holds: {_some(absent)}; fetch all files again"
        )
    left_out = {}
    for name in _siblings(folder, set(places.values())):
        new = sorted(set(_read_header(folder / name)[0]) - set(shapes))
        left_out.update({name: new} if new else {})
    for name, tensors in left_out.items():
        problems.append(
            f"{name} holds {len(tensors)} tensors ({_some(tensors)}) but {index} does not name it: "
            "the index is incomplete; fetch it again"
        )
    return problems


def _siblings(folder: Path, shards: set[str]) -> list[str]:
    """Files named as parts of the same series as the index's shards, which it does not name."""
    series = {(found["stem"], found["total"]) for name in shards if (found := SHARD.match(name))}
    others = sorted(path.name for path in folder.glob("*.safetensors") if path.is_file() and path.name not in shards)
    return [name for name in others if (found := SHARD.match(name)) and (found["stem"], found["total"]) in series]


def _absence(folder: Path) -> str:
    others = sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_"))
    if any(SHARD.match(name) for name in others):
        return f"there are weights in several files ({_some(others)}) but no {INDEX}, without which none is loaded"
    if others:
        return f"there is neither {WEIGHTS} nor {INDEX}, only {_some(others)}, which is not loaded: rename it"
    pickled = sorted(path.name for suffix in ("bin", "pt", "pth", "gguf") for path in folder.glob(f"*.{suffix}"))
    hint = f" (weights such as {pickled[0]} are not loaded: convert them)" if pickled else ""
    return f"there is no .safetensors file{hint}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
