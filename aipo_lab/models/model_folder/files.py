"""The small files of a model folder: which must be there, whether they are whole, and what loading would misread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_POINTER_LIMIT_BYTES = 1024

TOKENIZER_JSON_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "chat_template.json",
)
READ_SUFFIXES = (".json", ".jinja", ".model", ".safetensors", ".tiktoken", ".txt")
"""Endings of the files that loading may read."""


def file_problems(folder: Path) -> list[str]:
    """What keeps `folder` from being a model folder, its tokenizer's files and its weights' insides left aside."""
    problems = [] if _exists(folder / "config.json") else ["config.json is missing"]
    others = [path.name for path in _read_files(folder) if not _is_of_tokenizer(path.name)]
    problems += _damages(folder, others, ("config.json", "generation_config.json"))
    config, _ = read_object(folder / "config.json")
    return problems + (_config_problems(config) if config is not None else []) + _adapter_problems(folder)


def tokenizer_file_problems(folder: Path) -> list[str]:
    """What keeps the files of a folder's tokenizer from being read."""
    if not any(_exists(folder / name) for name in ("tokenizer.json", "tokenizer_config.json")):
        return ["there is no tokenizer (tokenizer.json or tokenizer_config.json)"]
    names = [path.name for path in _read_files(folder) if _is_of_tokenizer(path.name)]
    return _damages(folder, names, TOKENIZER_JSON_FILES)


def read_object(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """The JSON object in a file, or None and what is wrong with it; neither where there is no such file.

    A file that `file_problems` reports on anyway (an LFS pointer, a link to nothing, one that may not be read) is
    passed over.
    """
    if not path.is_file() or lfs_size(path) is not None:
        return None, None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None, None
    except (ValueError, RecursionError) as error:
        return None, f"is not JSON ({_first_line(error)}): it is damaged or cut off; fetch it again"
    if not isinstance(values, dict):
        return None, f"holds a JSON {type(values).__name__} where an object {{…}} belongs; fetch it again"
    return values, None


def lfs_size(path: Path) -> str | None:
    """The size in bytes of what a Git LFS pointer stands for, "" if it does not say; None for any other file."""
    try:
        if path.stat().st_size > LFS_POINTER_LIMIT_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    if not content.startswith(LFS_POINTER):
        return None
    sizes = [line[5:] for line in content.decode(errors="replace").splitlines() if line.startswith("size ")]
    return sizes[0] if sizes else ""


def _read_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in READ_SUFFIXES)


def _is_of_tokenizer(name: str) -> bool:
    return name in TOKENIZER_JSON_FILES or not name.endswith((".json", ".safetensors"))


def _damages(folder: Path, names: list[str], objects: tuple[str, ...]) -> list[str]:
    """What is wrong with the files `names`; those among `objects` must hold a JSON object."""
    reasons = ((name, read_object(folder / name)[1]) for name in objects)
    return _unreadable(folder, names) + [f"{name} {reason}" for name, reason in reasons if reason]


def _unreadable(folder: Path, names: list[str]) -> list[str]:
    problems = []
    for path in (folder / name for name in names):
        size = lfs_size(path)
        if size is not None:
            problems.append(
                f"{path.name} is a Git LFS pointer, not the file{f' of {size} bytes' if size else ''} it stands for; "
                "fetch it with `git lfs pull` in that folder"
            )
        elif path.is_symlink() and not path.exists():
            problems.append(f"{path.name} is a link to {path.readlink()}, which does not exist; fetch it again")
        elif path.is_file():
            try:
                path.open("rb").close()
            except OSError as error:
                problems.append(f"{path.name} cannot be read: {error.strerror}")
    return problems


def _config_problems(config: dict[str, Any]) -> list[str]:
    problems = []
    if not isinstance(config.get("model_type"), str):
        problems.append("config.json names no model_type")
    quantisation = config.get("quantization_config")
    if quantisation:
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else None
        problems.append(
            f"its weights are quantised ({method or 'config.json has a quantization_config'}) and cannot be trained; "
            "give the model it was made from, or save it dequantised"
        )
    return problems


def _adapter_problems(folder: Path) -> list[str]:
    adapter, _ = read_object(folder / "adapter_config.json")
    if not _exists(folder / "adapter_config.json"):
        return []
    base = (adapter or {}).get("base_model_name_or_path")
    return [
        f"it holds an adapter (adapter_config.json{f', made for {base}' if base else ''}), which is not a model by "
        "itself; merge it into its base model (peft: merge_and_unload) and save that"
    ]


def _exists(path: Path) -> bool:
    """Whether there is such a file, readable or not: an unreadable one is another problem."""
    return path.is_file() or path.is_symlink()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
