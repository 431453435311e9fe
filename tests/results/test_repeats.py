"""Means over seeds: what counts as a repeat, and how wide the interval is."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest

from aipo_lab.results.per_prompt import prompt_values
from aipo_lab.results.repeats import STUDENT_95, Configuration, estimate, repeated_rows, student_95
from aipo_lab.results.rows import ResultRow


def row(seed: int, value: float, se: float | None = 1.0, iteration: int = 1, **settings: str) -> ResultRow:
    metrics = {"micro/win_rate": value} | ({} if se is None else {"micro/win_rate_se": se})
    hyperparameters = {"beta": "0.1", "seed": str(seed), **settings}
    return ResultRow(f"t-{seed}-{settings}", "dpo", hyperparameters, iteration, "complete", metrics)


def test_rows_that_differ_in_seed_alone_are_repeats() -> None:
    rows = [row(0, 50), row(1, 60), row(0, 40, method="sdpo"), row(1, 41, method="sdpo"), row(0, 1, iteration=2)]
    rows.append(ResultRow("failed", "dpo", {"beta": "0.1", "seed": "2"}, 1, "failed"))
    groups = repeated_rows(rows)
    beta = (("beta", "0.1"),)
    assert {one: len(group) for one, group in groups.items()} == {
        Configuration("dpo", beta, 1): 2,
        Configuration("sdpo", beta, 1): 2,
        Configuration("dpo", beta, 2): 1,
    }


def test_without_several_seeds_there_are_no_repeats() -> None:
    assert repeated_rows([row(0, 50), row(0, 60, rank="x")]) == {}
    assert repeated_rows([ResultRow("t", "dpo", {"beta": "0.1"}, 1, "complete", {"micro/win_rate": 5.0})] * 2) == {}


def test_the_interval_has_the_variance_between_seeds_and_that_over_prompts() -> None:
    """By hand: mean 60, sd 10 over 3 seeds, t = 4.3027 with 2 degrees of freedom, 1.96 standard errors of 2."""
    made = estimate([row(seed, value, 2.0) for seed, value in enumerate((50.0, 60.0, 70.0))], "micro/win_rate")
    assert made is not None and (made.mean, made.n) == (60.0, 3)
    assert made.half_width == pytest.approx(math.hypot(4.3027 * 10 / math.sqrt(3), 1.959964 * 2), abs=1e-6)


def test_one_seed_has_no_interval_and_a_missing_value_no_mean() -> None:
    one = estimate([row(0, 50.0)], "micro/win_rate")
    assert one is not None and one.half_width is None
    assert estimate([row(0, 50.0), ResultRow("t", "dpo", {}, 1, "complete")], "micro/win_rate") is None
    assert estimate([], "micro/win_rate") is None


def test_with_values_by_prompt_the_answers_noise_counts_once() -> None:
    rng = random.Random(0)
    rows = [row(seed, 50.0, 5.0) for seed in range(3)]
    by_prompt = {f"p{n}": [50 + rng.gauss(0, 1) for _ in range(3)] for n in range(40)}
    values = prompt_values(
        {(one.trial, 1): {"micro/win_rate": {p: v[k] for p, v in by_prompt.items()}} for k, one in enumerate(rows)}
    )
    known, unknown = (estimate(rows, "micro/win_rate", *given) for given in ((values,), ()))
    assert known is not None and unknown is not None and known.n == 3
    assert known.half_width is not None and 0.1 < known.half_width < 1.0 < (unknown.half_width or 0)


def test_quantiles_are_students() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    for df in (1, 2, 5, 30):
        assert student_95(df) == pytest.approx(float(scipy_stats.t.ppf(0.975, df)), abs=1e-4)
    assert len(STUDENT_95) == 30 and student_95(31) == pytest.approx(1.96, abs=1e-3)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """2,000 made-up studies of 3 seeds on shared prompts: at least 95 %, as the answers' noise counts twice."""
    draw = random.Random(0)
    covered = []
    for _ in range(2000):
        prompts = draw.gauss(0, 2)
        rows = [row(seed, 60 + prompts + draw.gauss(0, 3) + draw.gauss(0, 1), math.hypot(2, 1)) for seed in range(3)]
        made = estimate(rows, "micro/win_rate")
        assert made is not None and made.half_width is not None
        covered.append(abs(made.mean - 60) <= made.half_width)
    assert 0.94 < fmean(covered) < 0.99
