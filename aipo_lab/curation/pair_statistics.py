"""What preference pairs look like as a set: lengths, near-duplicates, truncation, scores. The data linter judges these.

Lengths are in tokens where rows have token counts, in words where they have texts alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

NEAR_DUPLICATE = 0.95
"""Word similarity from which on two responses say nearly the same."""

_WORD = re.compile(r"\w+")


def word_similarity(one: str, other: str) -> float:
    """Share of the words of two texts that both have, 0 to 1, in any order and without case; 1 for two empty texts.

    Twice the common words over all words, each counted as often as it occurs (Dice's coefficient of two multisets).
    """
    first, second = (Counter(_WORD.findall(text.casefold())) for text in (one, other))
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 1.0


@dataclass(frozen=True)
class PairStatistics:
    """Sums over `pairs` pairs, as a stage's summary holds them.

    `length_difference` is the mean of |y_w| - |y_l| with its standard deviation `length_difference_sd`, `length_sd` the
    standard deviation of all response lengths, all in `length_unit`. `near_duplicates` counts pairs whose responses say
    nearly the same, `truncated` responses that ran into the generation cap (None: the rows do not tell), `equal_scores`
    pairs whose two scores are equal and `distinct_scores` the different scores there are (None: rows without scores).
    """

    pairs: int
    length_unit: Literal["tokens", "words"]
    length_difference: float
    length_difference_sd: float
    length_sd: float
    near_duplicates: int
    truncated: int | None
    equal_scores: int | None
    distinct_scores: int | None

    def as_summary(self) -> dict[str, Any]:
        """The values a manifest holds."""
        return asdict(self)

    @classmethod
    def from_summary(cls, values: Mapping[str, Any]) -> PairStatistics:
        """The inverse of `as_summary`."""
        return cls(**values)


def pair_statistics(rows: Iterable[Mapping[str, Any]]) -> PairStatistics:
    """The statistics of rows of `pairs.jsonl`, at least one."""
    lengths: list[tuple[int, int]] = []
    near_duplicates = truncated = equal_scores = 0
    in_tokens = tells_truncation = has_scores = True
    scores = set[float]()
    for row in rows:
        texts = [row[role][-1]["content"] for role in ("chosen", "rejected")]
        in_tokens = in_tokens and "chosen_tokens" in row
        lengths.append(_lengths(row, texts, in_tokens))
        near_duplicates += word_similarity(*texts) >= NEAR_DUPLICATE
        tells_truncation = tells_truncation and "chosen_finish_reason" in row
        truncated += sum(row.get(f"{role}_finish_reason") == "length" for role in ("chosen", "rejected"))
        has_scores = has_scores and "chosen_score" in row
        if has_scores:
            scores |= {row["chosen_score"], row["rejected_score"]}
            equal_scores += row["chosen_score"] == row["rejected_score"]
    assert lengths, "statistics need a pair"
    differences = [chosen - rejected for chosen, rejected in lengths]
    return PairStatistics(
        pairs=len(lengths),
        length_unit="tokens" if in_tokens else "words",
        length_difference=sum(differences) / len(differences),
        length_difference_sd=_sd(differences),
        length_sd=_sd([length for both in lengths for length in both]),
        near_duplicates=near_duplicates,
        truncated=truncated if tells_truncation else None,
        equal_scores=equal_scores if has_scores else None,
        distinct_scores=len(scores) if has_scores else None,
    )


def _lengths(row: Mapping[str, Any], texts: list[str], in_tokens: bool) -> tuple[int, int]:
    if in_tokens:
        return row["chosen_tokens"], row["rejected_tokens"]
    chosen, rejected = (len(_WORD.findall(text)) for text in texts)
    return chosen, rejected


def _sd(values: list[int]) -> float:
    """The sample's standard deviation; 0 for a single value."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)) if len(values) > 1 else 0.0
