"""Policies in memory: loading Hugging Face folders, and keeping the last ones loaded between stages."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.chat import is_special, turn_end_token

UNLIMITED_POSITIONS = 1 << 30


@dataclass(frozen=True)
class Policy:
    """A causal language model in evaluation mode with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def end_token_id(self) -> int:
        """The tokenizer's end token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def end_token_ids(self) -> frozenset[int]:
        """All tokens that end a response.

        The tokenizer's end token, those its `generation_config.json` and `config.json` declare, and the token with
        which the chat template ends a turn. What `config.json` says counts only for special tokens: where it says
        nothing, the architecture's default stands there, which is any token of another vocabulary.
        """
        declared = _as_ids(self.model.generation_config.eos_token_id)
        in_config = _as_ids(getattr(self.text_config, "eos_token_id", None))
        if self.model.generation_config._from_model_config:
            in_config, declared = in_config | declared, frozenset()
        special = {token for token in in_config if is_special(self.tokenizer, token)}
        found = declared | special | _as_ids(self._turn_end_token_id) | {self.end_token_id}
        return frozenset(token for token in found if token < self.vocabulary_size) or frozenset({self.end_token_id})

    @cached_property
    def _turn_end_token_id(self) -> int | None:
        return turn_end_token(self.tokenizer)

    @property
    def pad_token_id(self) -> int:
        """The padding token; the end token where a tokenizer has none, or one that the model has no embedding of."""
        pad = self.tokenizer.pad_token_id
        return self.end_token_id if pad is None or int(pad) >= self.vocabulary_size else int(pad)

    @property
    def text_config(self) -> Any:
        """The configuration of the language model, which composite models keep in a section of its own."""
        return self.model.config.get_text_config()

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens the model has embeddings of."""
        return int(self.text_config.vocab_size)

    @property
    def n_positions(self) -> int:
        """The most tokens a sequence may have; a huge number for models without such a limit."""
        for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
            value = getattr(self.text_config, name, None)
            if isinstance(value, int) and value > 0:
                return value
        return UNLIMITED_POSITIONS

    def room_tokens(self, prompt_tokens: int) -> int:
        """The most tokens that can follow a prompt; 0 if it fills the model's positions."""
        return max(self.n_positions - prompt_tokens, 0)


def _as_ids(declared: Any) -> frozenset[int]:
    several = declared if isinstance(declared, list | tuple | set) else [] if declared is None else [declared]
    return frozenset(int(token) for token in several)


class PolicyCache:
    """The policies this process used last, by folder, so that the next stage need not load them again."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._policies: OrderedDict[tuple[str, str, str], Policy] = OrderedDict()

    def get(self, folder: Path, device: str, dtype: str) -> Policy:
        """The policy of `folder`, loaded if it is not in memory. Do not change its weights."""
        key = (str(folder), device, dtype)
        if key not in self._policies:
            self._insert(key, load_policy(folder, device, dtype))
        self._policies.move_to_end(key)
        return self._policies[key]

    def take(self, folder: Path, device: str, dtype: str) -> Policy:
        """A policy the caller may change: it leaves the cache."""
        return self._policies.pop((str(folder), device, dtype), None) or load_policy(folder, device, dtype)

    def put(self, folder: Path, device: str, dtype: str, policy: Policy) -> None:
        """Remember a policy whose weights are those of `folder`."""
        self._insert((str(folder), device, dtype), policy)

    def clear(self) -> None:
        """Forget all policies; what torch keeps of a GPU for the next ones is given back too."""
        self._policies.clear()
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()

    def _insert(self, key: tuple[str, str, str], policy: Policy) -> None:
        self._policies[key] = policy
        while len(self._policies) > self.capacity:
            self._policies.popitem(last=False)


POLICIES = PolicyCache(capacity=2)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; raises `StageFailed` if it has no end token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    if tokenizer.eos_token_id is None:
        raise StageFailed(
            f"the tokenizer in {folder} has no end token, so no response could ever end; "
            "set eos_token in its tokenizer_config.json"
        )
    return tokenizer


def load_policy(folder: Path, device: str, dtype: str) -> Policy:
    """Load a model folder (safetensors only) in `dtype` (`float32`, `bfloat16`, …) onto `device`."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=getattr(torch, dtype), use_safetensors=True)
    return Policy(model.to(device).eval(), load_tokenizer(folder))
