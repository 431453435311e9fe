"""Sequences that begin alike as one tree of tokens, so that whatever they have in common is computed once.

A template's system prompt is common to all pairs, a prompt to both of its responses, and responses that one policy gave
to one prompt often share their first words. A token's hidden state depends on its path from the root alone, so every
token of the tree stands for all sequences that run through it.
"""

from __future__ import annotations

from collections.abc import Sequence

from aipo_lab.training.pairs import EncodedPair

ROOT = -1


class TokenTree:
    """`tokens` in the order they were added, and the `positions` in their sequences; places are indices into both."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, sequence: Sequence[int], after: int = ROOT) -> list[int]:
        """The places of a sequence's tokens that follow the token at `after`; those not there yet are added."""
        path = []
        for token in sequence:
            place = self._children.setdefault((after, token), len(self.tokens))
            if place == len(self.tokens):
                self.tokens.append(token)
                self.positions.append(0 if after == ROOT else self.positions[after] + 1)
            path.append(place)
            after = place
        return path

    def add_pair(self, pair: EncodedPair) -> tuple[list[int], list[int], list[int]]:
        """The places of a pair's prompt, chosen and rejected response.

        The last token of a response is left out: it is predicted, but predicts nothing.
        """
        prompt = self.add(pair.prompt)
        return prompt, self.add(pair.chosen[:-1], prompt[-1]), self.add(pair.rejected[:-1], prompt[-1])
