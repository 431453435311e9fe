"""The candidates of a prompt as selection sees them: text, length, score and win rate, each once if so wanted."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aipo_lab.objectives import mean_win_rates

SCORE_DIGITS = 9
"""Decimals of scores that count where they are compared with a penalty or a threshold."""

Duplicates = Literal["keep", "exact", "normalised"]


@dataclass(frozen=True)
class Candidate:
    """One response to a prompt: its place in the ranked row, and what selection goes by.

    `score`: the ranker's, less the price of its length. `win_rate`: mean probability that it beats the candidates of
    its prompt, by these scores, itself included with 1/2. `rank`: 1 + the number of candidates with a greater score.
    """

    index: int
    text: str
    tokens: int
    score: float
    rank: int
    win_rate: float
    finish_reason: str


def candidates_of(row: Mapping[str, Any], length_penalty: float = 0.0) -> list[Candidate]:
    """The candidates of a ranked row, in its order.

    `length_penalty`: score per token. Win rates are among all responses that the prompt got, copies included: they are
    samples of what the policy would say. Raises `StageFailed` if a score is not finite.
    """
    responses, scores, ranks = row["responses"], row["scores"], row["ranks"]
    if length_penalty:
        # rounded, so that what is equal but for the last bits of a subtraction ties
        prices = [length_penalty * one["tokens"] for one in responses]
        scores = [round(score - price, SCORE_DIGITS) for score, price in zip(scores, prices, strict=True)]
        ranks = [1 + sum(other > score for other in scores) for score in scores]
    win_rates = mean_win_rates(scores)
    return [
        Candidate(i, one["text"], one["tokens"], scores[i], ranks[i], win_rates[i], one["finish_reason"])
        for i, one in enumerate(responses)
    ]


def without_duplicates(candidates: Sequence[Candidate], duplicates: Duplicates) -> list[Candidate]:
    """The first candidate of each text. `normalised`: capitals, spaces and forms of a letter make no difference."""
    if duplicates == "keep":
        return list(candidates)
    first: dict[str, Candidate] = {}
    for one in candidates:
        first.setdefault(one.text if duplicates == "exact" else normalised(one.text), one)
    return list(first.values())


def normalised(text: str) -> str:
    """A text by which those that look alike are equal: NFKC, no capitals, one space where there is any."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
