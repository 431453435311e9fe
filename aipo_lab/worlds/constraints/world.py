"""The constraints world: real instructions whose answers a program can check."""

from __future__ import annotations

import random
from functools import cached_property, partial

from aipo_lab.worlds.constraints.composing import compose_all, read_requests
from aipo_lab.worlds.constraints.grammar import Instruction, parse_instruction
from aipo_lab.worlds.constraints.text import repeats_itself, words_of
from aipo_lab.worlds.constraints.writers import write_responses

POOL_VARIANTS = 6
BENCHMARK_VARIANTS = 4
REPETITION_FACTOR = 0.5


class ConstraintsWorld:
    """480 pool instructions and 128 benchmark instructions on other topics; the same for every seed."""

    name = "constraints"

    def is_instruction(self, prompt: str) -> bool:
        """Whether `prompt` is a request followed by one to four constraints the rules know, without clash."""
        return parse_instruction(prompt) is not None

    def quality(self, prompt: str, response: str) -> float:
        """Share of the checks of `prompt` that `response` meets, in [0, 1].

        Every listed word is a check of its own. A response without a word scores 0, whatever it avoids; one
        that repeats itself (`text.repeats_itself`) counts half.
        """
        instruction = parse_instruction(prompt)
        assert instruction is not None, f"not an instruction of this world: {prompt!r}"
        if not words_of(response):
            return 0.0
        share = _share_met(instruction, response)
        return share * REPETITION_FACTOR if repeats_itself(response) else share

    def written_responses(self, prompt: str) -> list[str]:
        """What the world's other writers answer to the instruction `prompt`; always the same."""
        return write_responses(random.Random(f"constraints/written/{prompt}"), prompt, partial(self.quality, prompt))

    def pool(self, n: int | None = None) -> list[str]:
        """The first `n` distinct instructions of the prompt pool; any stretch of 80 covers 80 topics."""
        return self._pool[:n]

    def benchmark_prompts(self, n: int | None = None) -> list[str]:
        """The first `n` distinct held-out instructions; their requests never occur in the pool."""
        return self._benchmark[:n]

    @cached_property
    def _pool(self) -> list[str]:
        return compose_all(read_requests("pool"), POOL_VARIANTS)

    @cached_property
    def _benchmark(self) -> list[str]:
        return compose_all(read_requests("benchmark"), BENCHMARK_VARIANTS)


def _share_met(instruction: Instruction, response: str) -> float:
    return sum(check.holds(response) for check in instruction.checks) / len(instruction.checks)
