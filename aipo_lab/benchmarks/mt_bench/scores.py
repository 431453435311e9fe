"""MT-Bench scores from ratings: overall, per turn and per category, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.benchmarks.mt_bench.questions import CATEGORIES, TURNS, category_of

Ratings = Mapping[tuple[int, int], float]
"""Ratings by (question id, turn)."""


def mt_bench_scores(ratings: Ratings) -> dict[str, Estimate]:
    """`score`, `score_turn1`, `score_turn2` and `score_<category>`: means of all their ratings, on the judge's scale.

    As officially, `score` is the mean over all ratings (the mean of the two turns' means only if none is
    missing). A score without any rating is absent. `n` counts ratings.
    """
    groups: dict[str, Collection[tuple[int, int]]] = {"score": ratings}
    groups |= {f"score_turn{turn}": [key for key in ratings if key[1] == turn] for turn in TURNS}
    groups |= {
        f"score_{category}": [key for key in ratings if category_of(key[0]) == category] for category in CATEGORIES
    }
    return {name: _mean_by_question(ratings, keys) for name, keys in groups.items() if keys}


def _mean_by_question(ratings: Ratings, keys: Collection[tuple[int, int]]) -> Estimate:
    by_question: dict[int, list[float]] = {}
    for question_id, turn in sorted(keys):
        by_question.setdefault(question_id, []).append(ratings[question_id, turn])
    return clustered_mean(list(by_question.values()))


def clustered_mean(clusters: Sequence[Sequence[float]]) -> Estimate:
    """The mean over all values, with a standard error that allows for correlation within a cluster.

    The two ratings of a question rise and fall together (the second turn continues the first), so treating them
    as independent understates the error. With S the sum and m the number of a cluster's values, M the mean, G clusters
    and N values: se² = G/(G-1) · Σ(S - m·M)² / N². For equal m this is the standard error of the clusters'
    means, for m = 1 the usual one. None with one cluster.
    """
    sums = np.array([math.fsum(cluster) for cluster in clusters])
    counts = np.array([len(cluster) for cluster in clusters])
    mean = float(sums.sum() / counts.sum())
    n_clusters = len(clusters)
    if n_clusters == 1:
        return Estimate(mean, None, int(counts.sum()))
    spread = float(np.square(sums - mean * counts).sum())
    se = math.sqrt(n_clusters / (n_clusters - 1) * spread) / int(counts.sum())
    return Estimate(mean, se, int(counts.sum()))
