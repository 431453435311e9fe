"""How many positions a model has: the most tokens of prompt and response together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aipo_lab.models.model_folder.architecture import quiet_transformers


def config_positions(config: Any) -> int | None:
    """The positions of a transformers config, composite or not; None where it states no limit."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def positions_of(folder: Path) -> int | None:
    """The positions of a checked model folder; None where its config states no limit."""
    from transformers import AutoConfig

    with quiet_transformers():
        return config_positions(AutoConfig.from_pretrained(str(folder), trust_remote_code=False))


def position_problem(folder: Path, needed_tokens: int, what: str) -> str | None:
    """What to tell of a recipe that needs `needed_tokens` positions for `what`; None if the checked model has them."""
    positions = positions_of(folder)
    if positions is None or needed_tokens <= positions:
        return None
    return (
        f"{what} needs {needed_tokens} tokens of prompt and response, but the model {folder} has {positions} positions "
        "(max_position_embeddings); lower the caps or choose a model with more"
    )
