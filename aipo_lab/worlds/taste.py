"""What a judge with a taste for length perceives: the programmatic ranker and the embedded judges share it."""

from __future__ import annotations

LENGTH_UNIT_TOKENS = 10


def biased_quality(quality: float, n_tokens: int, length_bias: float) -> float:
    """quality + length_bias * tokens / 10."""
    return quality + length_bias * n_tokens / LENGTH_UNIT_TOKENS
