"""From a ranker's scores to win rates among the candidates of a prompt (SPPO)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aipo_lab.core.errors import StageFailed


def mean_win_rates(scores: Sequence[float]) -> list[float]:
    """Each candidate's mean probability of beating the candidates of its prompt, itself included with 1/2.

    `scores` are on a logit scale: P(i beats j) = sigmoid(s_i - s_j), as in the official SPPO code. Raises
    `StageFailed` if a score is not finite.
    """
    if not all(math.isfinite(score) for score in scores):
        raise StageFailed(f"win rates need finite scores, but the ranker gave {list(scores)}")
    return [sum(_sigmoid(mine - other) for other in scores) / len(scores) for mine in scores]


def _sigmoid(z: float) -> float:
    return (1 + math.tanh(z / 2)) / 2
