"""The supervised mix the micro base model is trained on, in token ids: chats, self-instruct documents, judgments."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aipo_lab.generation.self_instruct import HEADER, few_shot_prompt
from aipo_lab.worlds.micro.demonstrations import (
    DOCUMENT_INSTRUCTIONS,
    DemonstrationConfig,
    draw_demonstration,
)
from aipo_lab.worlds.micro.instructions import draw_instruction, parse_instruction, split_requests
from aipo_lab.worlds.micro.judging import draw_judging
from aipo_lab.worlds.micro.tokenizer import BOS, EOS, chat_prompt
from aipo_lab.worlds.micro.world import MicroWorld


@dataclass(frozen=True)
class Row:
    """Token ids of one training row; the loss is on all of them from index `start` on."""

    ids: list[int]
    start: int


class SupervisedMix:
    """An endless, seeded stream of training rows over the pool's part of a world's requests."""

    def __init__(self, world: MicroWorld, demonstrations: DemonstrationConfig, tokenizer: Any, seed: int) -> None:
        self._world = world
        self._demonstrations = demonstrations
        self._tokenizer = tokenizer
        self._requests, _ = split_requests(world.seed)
        self._rng = random.Random(f"micro/supervised/{seed}")

    def chat_rows(self, count: int) -> list[Row]:
        """`count` instructions with imperfect demonstrations; the loss is on response and end token."""
        return self._encode([self._draw_chat() for _ in range(count)])

    def documents(self, count: int) -> list[Row]:
        """`count` self-instruct documents; the loss is on everything after the header."""
        return self._encode([self._draw_document() for _ in range(count)])

    def judgments(self, count: int) -> list[Row]:
        """`count` questions to a judge with their true replies; the loss is on reply and end token."""
        return self._encode([self._draw_judging() for _ in range(count)])

    def _draw_judging(self) -> tuple[str, str]:
        instruction = draw_instruction(self._rng, self._requests)
        request = parse_instruction(instruction)
        assert request is not None
        question, reply = draw_judging(self._rng, self._world.knowledge, instruction, request, self._demonstrations)
        return chat_prompt(question), reply + EOS

    def _draw_chat(self) -> tuple[str, str]:
        instruction = draw_instruction(self._rng, self._requests)
        request = parse_instruction(instruction)
        assert request is not None
        response = draw_demonstration(self._rng, self._world.knowledge, request, self._demonstrations)
        return chat_prompt(instruction), response + EOS

    def _draw_document(self) -> tuple[str, str]:
        lines = [draw_instruction(self._rng, self._requests) for _ in range(DOCUMENT_INSTRUCTIONS)]
        header = f"{HEADER}\n\n"
        return BOS + header, few_shot_prompt(lines).removeprefix(header) + EOS

    def _encode(self, texts: Sequence[tuple[str, str]]) -> list[Row]:
        """Encode (context, target) texts; no token spans the boundary between the two."""
        if not texts:
            return []
        parts = [part for pair in texts for part in pair]
        ids: list[list[int]] = self._tokenizer(parts, add_special_tokens=False)["input_ids"]
        return [Row(ids[i] + ids[i + 1], len(ids[i])) for i in range(0, len(ids), 2)]


def micro_batches(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Group rows of similar length so that no group holds more than `max_tokens` tokens, padding included."""
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if group and len(row.ids) * (len(group) + 1) > max_tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
