"""All checks of a model folder in one error, and the memory of folders that passed."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from aipo_lab.assets.library import assets_home
from aipo_lab.core.errors import UserError
from aipo_lab.models.fingerprint import fingerprint_folder
from aipo_lab.models.model_folder.files import file_problems, read_object, tokenizer_file_problems
from aipo_lab.models.model_folder.weights import Weights, read_weights

CHECK_VERSION = 1
"""Raised when the checks change, so that folders that passed are examined again."""


def check_folder(folder: Path, name: str) -> None:
    """Raise one `UserError` with every reason why `folder`, called `name` in it, cannot be loaded, trained and asked.

    The first check of a content loads transformers (seconds); later ones with the same transformers only read headers.
    """
    if not folder.is_dir():
        raise UserError(f"{name} {folder} is a file; give the folder that holds config.json")
    weights, tokenizer = read_weights(folder), tokenizer_file_problems(folder)
    problems = [*file_problems(folder), *weights.problems, *tokenizer]
    mark = None if problems else _mark(folder)
    if mark is not None and mark.is_file():
        return
    problems += _deep_problems(folder, weights, look_at_tokenizer=not tokenizer)
    if problems:
        raise UserError.from_problems(f"{name} {folder} is not a Hugging Face model folder that can be used:", problems)
    if mark is not None:
        _remember(mark)


def _deep_problems(folder: Path, weights: Weights, look_at_tokenizer: bool) -> list[str]:
    """What transformers finds, as far as the files that are whole let it look."""
    from aipo_lab.models.model_folder.architecture import Architecture, read_architecture
    from aipo_lab.models.model_folder.tokens import token_problems

    config, _ = read_object(folder / "config.json")
    if config is None:  # the tokenizer's loading begins there, too
        return []
    architecture = Architecture()
    if isinstance(config.get("model_type"), str) and not config.get("quantization_config"):
        architecture = read_architecture(folder, weights)
        look_at_tokenizer &= architecture.config is not None
    tokens = token_problems(folder, architecture.config, architecture.vocabulary) if look_at_tokenizer else []
    return [*architecture.problems, *tokens]


def _mark(folder: Path) -> Path:
    version = importlib.metadata.version("transformers")
    return assets_home().parent / "checked-models" / f"{fingerprint_folder(folder)}-{version}-{CHECK_VERSION}"


def _remember(mark: Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:  # a home that may not be written to: the next command checks again, nothing else
        return
