"""From sampled tokens to a completion, by the rule of the house: the tokens decide, and the text is theirs.

Engines that run elsewhere end a completion by rules of their own; where it ends is decided here again, alike for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aipo_lab.generation.engine import Completion

NO_ROOM = Completion("", [], "length")
"""What a prompt gets that leaves the model no room."""

Decode = Callable[[Sequence[int]], str]


def decoder(tokenizer: Any) -> Decode:
    """The text of tokens, without special ones."""

    def decode(tokens: Sequence[int]) -> str:
        text = tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    return decode


def finish(
    tokens: Sequence[int],
    decode: Decode,
    ends: frozenset[int],
    stop: Sequence[str],
    logprobs: Sequence[float] | None = None,
    *,
    stopped: bool = False,
) -> Completion:
    """The completion of sampled tokens: up to the first end token, or before the first of the stop strings.

    Without either it was cut off by its cap, unless the engine says that it `stopped`. `logprobs`: one for each token.
    """
    at = next((place for place, token in enumerate(tokens) if token in ends), None)
    words = list(tokens) if at is None else list(tokens[:at])
    text = decode(words)
    cuts = [place for string in stop if (place := text.find(string)) >= 0]
    if cuts:
        text = text[: min(cuts)]
        kept, reason = tokens_up_to(words, text, decode), "stop"
    else:
        kept = words if at is None else [*words, tokens[at]]
        reason = "stop" if at is not None or stopped else "length"
    return Completion(text, kept, reason, None if logprobs is None else list(logprobs[: len(kept)]))


def tokens_up_to(tokens: Sequence[int], text: str, decode: Decode) -> list[int]:
    """The fewest first tokens that say all of `text`."""
    kept = list(tokens)
    while kept and decode(kept[:-1]).startswith(text):
        kept.pop()
    return kept
