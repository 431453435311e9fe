"""Arena-Hard scores from verdicts: the win rate in closed form, its interval, its length-controlled twin, lengths.

A game gives the model W, T or L battles: 3 identical ones for a strong preference, else 1. Every model only meets
the baseline, so the official Bradley-Terry fit equals (W + T/2) / (W + T + L) exactly, and no fit is needed.

The games of one question share its answers, and the copies of a strong preference are one observation. Therefore
standard errors (delete-one jackknife) and the interval (percentile bootstrap) take whole questions, of this model
alone. The official v0.1 interval resamples single battles, copies included, of all models in its folder together, so
that it changes with the other models and takes copies for evidence: it is not the same number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aipo_lab.benchmarks.arena_hard.shapes import Judgment
from aipo_lab.benchmarks.arena_hard.verdicts import Rules
from aipo_lab.benchmarks.length_control import Estimate, length_controlled_win_rate, mean_estimate

BOOTSTRAP_ROUNDS = 1000
BOOTSTRAP_SEED = 42


@dataclass(frozen=True)
class Tally:
    """The battles of one model by question, for the questions that count.

    `points`: battles won, ties being half. `battles`: their number, 1 to 6. `unjudged`: the games that count for
    nothing and those left out because of them, with the reason.
    """

    question_ids: list[str]
    points: np.ndarray
    battles: np.ndarray
    unjudged: dict[str, str] = field(default_factory=dict)


def tally(judgments: Sequence[Judgment], rules: Rules) -> Tally:
    """Count the battles of one model; each question occurs once in `judgments`, in any order."""
    ids, points, battles = [], [], []
    unjudged: dict[str, str] = {}
    for judgment in sorted(judgments, key=lambda judgment: judgment.question_id):  # the bootstrap draws by place
        failures = _failures(judgment, rules)
        unjudged |= failures
        won, played = _battles(judgment, rules)
        if played and not (failures and rules.needs_both_games):
            ids.append(judgment.question_id)
            points.append(won)
            battles.append(played)
    return Tally(ids, np.array(points, dtype=float), np.array(battles, dtype=float), unjudged)


def _failures(judgment: Judgment, rules: Rules) -> dict[str, str]:
    """The games that count for nothing, by name."""
    reasons = [game.failure for game in judgment.games]
    if rules.needs_both_games and any(reasons):
        reasons = [reason or f"left out with the other game, as {rules.version} does" for reason in reasons]
    return {f"{judgment.question_id} game {number}": reason for number, reason in enumerate(reasons, 1) if reason}


def _battles(judgment: Judgment, rules: Rules) -> tuple[float, int]:
    """Battles won by the model and battles played in the games that have a verdict."""
    won, played = 0.0, 0
    for game, model_is_a in zip(judgment.games, (False, True), strict=True):
        if game.label is not None and game.failure is None:
            outcome_of_a, weight = rules.labels[game.label]
            won += weight * (outcome_of_a if model_is_a else 1 - outcome_of_a)
            played += weight
    return won, played


def win_rate_scores(counted: Tally, interval_percent: float) -> dict[str, Estimate]:
    """`win_rate` in percent and the bounds of its interval, `win_rate_ci_low` and `win_rate_ci_high`; n = questions."""
    n = len(counted.question_ids)
    assert n, "a win rate needs a question with a verdict"

    def rate(questions: np.ndarray) -> Any:
        return 100 * counted.points[questions].sum(axis=-1) / counted.battles[questions].sum(axis=-1)

    draws = np.random.default_rng(BOOTSTRAP_SEED).integers(0, n, (BOOTSTRAP_ROUNDS, n))
    tail = (100 - interval_percent) / 2
    low, high = np.percentile(rate(draws), [tail, 100 - tail])
    return {
        "win_rate": _jackknifed(lambda questions: float(rate(questions)), n),
        "win_rate_ci_low": Estimate(float(low), None, n),
        "win_rate_ci_high": Estimate(float(high), None, n),
    }


def lc_win_rate(counted: Tally, tokens: Mapping[str, int], baseline_tokens: Mapping[str, int]) -> Estimate:
    """Length-controlled win rate in percent, from the battles and both answers' lengths in tokens by question.

    Each question enters with its mean outcome once per battle: as in the win rate, a question with strong verdicts
    counts more, so that the two rates agree where length explains nothing (but for weak priors).
    """
    ours = np.array([tokens[question] for question in counted.question_ids], dtype=float)
    theirs = np.array([baseline_tokens[question] for question in counted.question_ids], dtype=float)
    outcomes = counted.points / counted.battles

    def fit(questions: np.ndarray) -> float:
        rows = np.repeat(questions, counted.battles[questions].astype(int))
        return length_controlled_win_rate(outcomes[rows].tolist(), ours[rows].tolist(), theirs[rows].tolist()).value

    return _jackknifed(fit, outcomes.size)


def _jackknifed(statistic: Callable[[np.ndarray], float], n: int) -> Estimate:
    """A statistic of `n` questions, given by their indices, with its delete-one jackknife standard error."""
    everything = np.arange(n)
    value = statistic(everything)
    if n == 1:
        return Estimate(value, None, n)
    without_one = np.array([statistic(np.delete(everything, index)) for index in everything])
    se = math.sqrt((n - 1) / n * ((without_one - without_one.mean()) ** 2).sum())
    return Estimate(value, se, n)


def scores(
    counted: Tally, rules: Rules, tokens: Mapping[str, int] | None, baseline_tokens: Mapping[str, int] | None
) -> dict[str, Estimate]:
    """The metrics that verdicts and lengths (by question, where known) allow; all win rates need a verdict.

    `length_tokens` is the mean over all answers, truncated to a whole number as officially.
    """
    found: dict[str, Estimate] = {}
    if counted.question_ids:
        found |= win_rate_scores(counted, rules.interval_percent)
        if tokens is not None and baseline_tokens is not None:
            found["lc_win_rate"] = lc_win_rate(counted, tokens, baseline_tokens)
    if tokens is not None:
        mean = mean_estimate(list(tokens.values()))
        found["length_tokens"] = Estimate(float(int(mean.value)), mean.se, mean.n)
    return found
