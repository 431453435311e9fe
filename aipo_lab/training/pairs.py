"""Preference pairs as token ids, within the limits of a training; what is past a limit is left out and counted.

Where a row has token ids they are taken as they are: what is trained is what was generated. Where it has texts alone
(pairs of other origin) they are tokenised by the rule of `aipo_lab.models.chat`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.models.chat import MODEL_TEMPLATE, encode_prompt, encode_response, response_end_token
from aipo_lab.models.template import ChatSettings


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one preference pair; responses include the end token where the policy wrote one.

    `win_rates` of chosen and rejected are there when the pair's row has them.
    """

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    win_rates: tuple[float, float] | None = None

    @property
    def n_tokens(self) -> int:
        """Length of the pair's row."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def n_attended_tokens(self) -> int:
        """Length of both responses, each with the prompt."""
        return len(self.prompt) + self.n_tokens

    @property
    def longest_sequence_tokens(self) -> int:
        """Length of the prompt with the longer response."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def load_pairs(
    path: Path,
    tokenizer: Any,
    max_prompt_tokens: int,
    max_response_tokens: int,
    chat: ChatSettings = MODEL_TEMPLATE,
) -> tuple[list[EncodedPair], dict[str, int]]:
    """The encoded rows of a `pairs.jsonl` and the counts of those left out; raises `StageFailed` if none is left."""
    rows = read_jsonl(path)
    pairs, excluded = encode_pairs(rows, tokenizer, max_prompt_tokens, max_response_tokens, chat)
    if not pairs:
        raise StageFailed(f"none of {len(rows)} pairs is within the token limits: {dict(excluded)}")
    return pairs, dict(excluded)


def encode_pairs(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    max_prompt_tokens: int,
    max_response_tokens: int,
    chat: ChatSettings = MODEL_TEMPLATE,
) -> tuple[list[EncodedPair], Counter[str]]:
    """Encode rows of `pairs.jsonl`; a pair past a limit is left out and counted, never cut short.

    `chat`: how prompts that come without token ids are rendered.
    """
    pairs, excluded = [], Counter[str]()
    encoder = _TextEncoder(tokenizer, chat)
    for row in rows:
        rates = (row["chosen_win_rate"], row["rejected_win_rate"]) if "chosen_win_rate" in row else None
        chosen, rejected = (encoder.response(row, role) for role in ("chosen", "rejected"))
        pair = EncodedPair(row["id"], encoder.prompt(row), chosen, rejected, rates)
        if len(pair.prompt) > max_prompt_tokens:
            excluded["prompt_too_long"] += 1
        elif max(len(pair.chosen), len(pair.rejected)) > max_response_tokens:
            excluded["response_too_long"] += 1
        elif not pair.chosen or not pair.rejected:
            excluded["empty_response"] += 1
        else:
            pairs.append(pair)
    return pairs, excluded


class _TextEncoder:
    """The token ids of rows, from the rows or, failing that, from their texts."""

    def __init__(self, tokenizer: Any, chat: ChatSettings) -> None:
        self.tokenizer = tokenizer
        self.chat = chat

    def prompt(self, row: Mapping[str, Any]) -> list[int]:
        if "prompt_token_ids" in row:
            return list(row["prompt_token_ids"])
        return encode_prompt(self.tokenizer, row["prompt"], self.chat)

    def response(self, row: Mapping[str, Any], role: str) -> list[int]:
        if f"{role}_token_ids" in row:
            return list(row[f"{role}_token_ids"])
        ended = row.get(f"{role}_finish_reason", "stop") == "stop"
        return encode_response(self.tokenizer, row[role][0]["content"], ended, end_token_id=self.end_token_id)

    @cached_property
    def end_token_id(self) -> int:
        return response_end_token(self.tokenizer, self.chat)
