"""The micro world itself: knowledge, checkable instructions and exact quality behind the `World` interface."""

from __future__ import annotations

import random
from functools import cached_property

from aipo_lab.core.errors import UserError
from aipo_lab.worlds.micro.instructions import draw_instruction, parse_instruction, split_requests
from aipo_lab.worlds.micro.knowledge import draw_knowledge
from aipo_lab.worlds.micro.responses import response_quality
from aipo_lab.worlds.micro.writers import write_responses

POOL_SIZE = 2048
BENCHMARK_SIZE = 512


class MicroWorld:
    """A world drawn from `seed`: twenty animals, six attributes, and instructions that ask for them."""

    name = "micro"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.knowledge = draw_knowledge(seed)

    def is_instruction(self, prompt: str) -> bool:
        """Whether `prompt` is a well-formed instruction about known names, no attribute asked for twice."""
        return parse_instruction(prompt) is not None

    def quality(self, prompt: str, response: str) -> float:
        """True quality of any `response` text to the instruction `prompt`: -0.5 to 1, where 1.0 is perfect.

        See `response_quality` for the rule. Raises `UserError` if `prompt` is not an instruction.
        """
        request = parse_instruction(prompt)
        if request is None:
            raise UserError(f"{prompt!r} is not an instruction of the micro world; filter with is_instruction first")
        return response_quality(self.knowledge, request, response)

    def written_responses(self, prompt: str) -> list[str]:
        """What the world's other writers answer to the instruction `prompt`; always the same."""
        request = parse_instruction(prompt)
        assert request is not None, f"not an instruction of this world: {prompt!r}"
        return write_responses(random.Random(f"micro/written/{self.seed}/{prompt}"), self.knowledge, request)

    def pool(self, n: int | None = None) -> list[str]:
        """The first `n` of 2048 distinct instructions; raises `UserError` if there are fewer than `n`."""
        return _first(self._pool, n, "prompt pool")

    def benchmark_prompts(self, n: int | None = None) -> list[str]:
        """The first `n` of 512 instructions over (entity, attribute set) combinations absent from the pool."""
        return _first(self._benchmark, n, "benchmark")

    @cached_property
    def _pool(self) -> list[str]:
        return self._distinct("pool", POOL_SIZE)

    @cached_property
    def _benchmark(self) -> list[str]:
        return self._distinct("benchmark", BENCHMARK_SIZE)

    def _distinct(self, part: str, size: int) -> list[str]:
        """Draw `size` distinct instructions from one part of the split."""
        pool, held_out = split_requests(self.seed)
        requests = held_out if part == "benchmark" else pool
        rng = random.Random(f"micro/{part}/{self.seed}")
        drawn: dict[str, None] = {}
        while len(drawn) < size:
            drawn[draw_instruction(rng, requests)] = None
        return list(drawn)


def _first(prompts: list[str], n: int | None, what: str) -> list[str]:
    """A copy of the first `n` prompts."""
    if n is not None and not 0 <= n <= len(prompts):
        raise UserError(
            f"{n} prompts asked of the micro world's {what}; it holds {len(prompts)}: ask for 0 to that many"
        )
    return prompts[:n]
