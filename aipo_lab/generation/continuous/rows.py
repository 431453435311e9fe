"""One completion in the making: its tokens, its random numbers, and when it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from aipo_lab.generation.engine import Completion


@dataclass(frozen=True)
class Ending:
    """What ends a completion: an end token, or the text before the first stop string."""

    end_token_ids: frozenset[int]
    stop: Sequence[str]
    decode: Callable[[list[int]], str]

    def cut(self, tokens: list[int]) -> str | None:
        """The tokens' text before the first stop string; None if there is none in it."""
        text = self.decode(tokens)
        places = [place for string in self.stop if (place := text.find(string)) >= 0]
        return text[: min(places)] if places else None

    def may_have_stopped(self, tokens: list[int]) -> bool:
        """Whether a stop string may just have come up: a look at the last tokens alone (a character has at most 4)."""
        last = 4 * max(map(len, self.stop), default=0) + 8
        tail = self.decode(tokens[-last:])
        return any(string in tail for string in self.stop)

    def tokens_up_to(self, tokens: list[int], text: str) -> list[int]:
        """The fewest first tokens that say all of `text`."""
        kept = list(tokens)
        while kept and self.decode(kept[:-1]).startswith(text):
            kept.pop()
        return kept


@dataclass(eq=False)
class Row:
    """One completion in the making.

    `random` is the row's own, made from the seed, the prompt's place and the sample's: what else is generated at the
    same time, before or again changes none of its numbers.
    """

    position: int
    prompt: Sequence[int]
    cap: int
    ending: Ending
    random: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] | None = None
    done: Completion | None = None

    def __post_init__(self) -> None:
        if self.cap == 0:
            self._finish("length")

    @property
    def completion(self) -> Completion:
        """What was written; only of a row that is done."""
        assert self.done is not None
        return self.done

    @property
    def sequence(self) -> list[int]:
        """The prompt and all that was written."""
        return [*self.prompt, *self.tokens]

    def append(self, token: int, logprob: float | None = None) -> None:
        """Add a token, and finish the completion if it ends with it."""
        self.tokens.append(token)
        if self.logprobs is not None:
            assert logprob is not None
            self.logprobs.append(logprob)
        if token in self.ending.end_token_ids:
            self._finish("stop", ended=True)
        elif len(self.tokens) >= self.cap:
            self._finish("length")
        elif self.ending.stop and self.ending.may_have_stopped(self.tokens):
            self._finish(None)

    def _finish(self, reason: str | None, ended: bool = False) -> None:
        """Finish for a reason; before the first stop string if there is one (for no reason: only then)."""
        written = self.tokens[:-1] if ended else self.tokens
        text = self.ending.cut(written) if self.ending.stop else None
        if text is not None:
            self._complete(text, self.ending.tokens_up_to(written, text), "stop")
        elif reason is not None:
            self._complete(self.ending.decode(written), self.tokens, reason)

    def _complete(self, text: str, tokens: list[int], reason: str) -> None:
        logprobs = None if self.logprobs is None else self.logprobs[: len(tokens)]
        self.done = Completion(text, tokens, reason, logprobs)


def random_of_row(seed: int, position: int, sample: int) -> np.random.Generator:
    """The random numbers of sample `sample` of the prompt at `position`."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, position, sample])))
