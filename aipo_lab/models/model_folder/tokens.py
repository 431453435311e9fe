"""A folder's tokenizer and end tokens against the number of tokens the model has embeddings for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aipo_lab.models.model_folder.architecture import quiet_transformers, reason_of
from aipo_lab.models.model_folder.files import read_object

SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
OTHER_SENSES = ("image", "audio", "video", "vision", "boi", "eoi", "boa", "eoa")
"""How tokens that stand for pictures and sound are named: a text model may share a tokenizer that has them."""
SHOWN = 4


def token_problems(folder: Path, config: Any, vocabulary: int | None) -> list[str]:
    """What is wrong with the tokenizer and the end tokens of a folder whose tokenizer's files are whole.

    `config` and `vocabulary`: see `Architecture`; None where they are unknown, and then nothing is compared with them.
    """
    from transformers import AutoTokenizer

    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
            ids = {str(token): int(index) for token, index in tokenizer.get_vocab().items()}
        except Exception as error:  # whatever damaged files set off there, loading would set off too
            return [f"the tokenizer cannot be loaded: {reason_of(error)}"]
        generation = _end_ids(folder, config)
    problems = []
    if len(ids) <= len(tokenizer.get_added_vocab()):
        problems.append(
            "the tokenizer has no vocabulary; fetch tokenizer.json (or vocab, merges, tokenizer.model) again"
        )
    if tokenizer.eos_token_id is None:
        problems.append(
            "the tokenizer has no end token, so no response could ever end; set eos_token in tokenizer_config.json"
        )
    if vocabulary is not None:
        problems += _beyond(tokenizer, ids, vocabulary)
    return problems + _end_problems(generation, vocabulary)


def _beyond(tokenizer: Any, ids: dict[str, int], vocabulary: int) -> list[str]:
    """Tokens that the tokenizer may write and the model cannot look up."""
    named = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    problems = []
    told = set()
    for name, token in named.items():
        if ids.get(token, -1) >= vocabulary and not name.startswith(OTHER_SENSES):
            told.add(token)
            problems.append(
                f"{name} {token!r} has id {ids[token]}, but the model has embeddings for {vocabulary} tokens only "
                f"(0 to {vocabulary - 1}): name a token it knows in tokenizer_config.json, or resize the embeddings"
            )
    silent = {token for name, token in named.items() if name.startswith(OTHER_SENSES)}
    others = sorted(
        (index, token) for token, index in ids.items() if index >= vocabulary and token not in told | silent
    )
    if others:
        shown = ", ".join(f"{token!r} ({index})" for index, token in others[:SHOWN])
        problems.append(
            f"{len(others)} tokens of the tokenizer have ids beyond the {vocabulary} embeddings of the model: {shown}"
            f"{' and more' if len(others) > SHOWN else ''}; it belongs to another model, or they were not resized"
        )
    return problems


def _end_ids(folder: Path, config: Any) -> tuple[str, Any]:
    """Where the end tokens of generation are declared, and which they are, as generation will see them."""
    from transformers import GenerationConfig

    if read_object(folder / "generation_config.json")[0] is None:
        return "config.json", getattr(config.get_text_config(), "eos_token_id", None) if config is not None else None
    try:
        return "generation_config.json", GenerationConfig.from_pretrained(str(folder)).eos_token_id
    except Exception as error:  # as above
        return "generation_config.json", error


def _end_problems(declared: tuple[str, Any], vocabulary: int | None) -> list[str]:
    file, value = declared
    if isinstance(value, Exception):
        return [f"{file} is not valid: {reason_of(value)}"]
    several = value if isinstance(value, list | tuple) else [] if value is None else [value]
    wrong = [one for one in several if isinstance(one, bool) or not isinstance(one, int) or one < 0]
    if wrong:
        return [f"eos_token_id in {file} is {value!r}; it must be a token's number, or a list of them"]
    beyond = [one for one in several if vocabulary is not None and one >= vocabulary]
    if beyond:
        return [f"eos_token_id {value!r} in {file} lies beyond the {vocabulary} tokens the model has embeddings for"]
    return []
