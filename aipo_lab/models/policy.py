"""Policies in memory: loading Hugging Face folders, and keeping the last ones loaded between stages."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import StageFailed


@dataclass(frozen=True)
class Policy:
    """A causal language model in evaluation mode with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def end_token_id(self) -> int:
        """The token that ends a response."""
        return int(self.tokenizer.eos_token_id)

    @property
    def end_token_ids(self) -> frozenset[int]:
        """All tokens that end a response: some chat models declare several."""
        declared = self.model.generation_config.eos_token_id
        several = declared if isinstance(declared, list) else [] if declared is None else [declared]
        return frozenset({self.end_token_id, *several})

    @property
    def pad_token_id(self) -> int:
        """The padding token; the end token where a tokenizer has none."""
        pad = self.tokenizer.pad_token_id
        return self.end_token_id if pad is None else int(pad)


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
        """Forget all policies."""
        self._policies.clear()

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
