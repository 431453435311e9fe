"""When two prompts count as the same: equal words, whatever their spaces and capitals."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def same_words(text: str) -> str:
    """The form in which prompts are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class PromptSet:
    """Prompts to look up by their words."""

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._known = set(map(same_words, prompts))

    def __contains__(self, prompt: str) -> bool:
        return same_words(prompt) in self._known

    def add(self, prompt: str) -> bool:
        """Whether the prompt is new; it is known from then on."""
        words = same_words(prompt)
        new = words not in self._known
        self._known.add(words)
        return new
