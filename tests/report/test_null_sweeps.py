"""Equal trials under different names are not called different, and real differences are found: simulated sweeps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.report.ordering import Ordering, check_claims
from aipo_lab.results.per_prompt import PointValues, PromptValues
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_per_objective

MICRO = BENCHMARK_METRICS["micro"]
OBJECTIVES = ("dpo", "dpo_nll", "simpo", "alpha_dpo", "aipo")
N_PROMPTS = 80
PATH = ((20.0, 50.0), (35.0, 72.0), (55.0, 80.0))
"""Mean length in tokens and win rate in percent by iteration."""


def simulate(
    rng: np.random.Generator,
    n_seeds: int,
    n_settings: int = 1,
    training_sd: float = 0.0,
    longer: Mapping[str, float] | None = None,
    better: Mapping[str, float] | None = None,
) -> Ordering:
    """What a report says of a sweep whose trials are equal but for what is `longer` (tokens) or `better` (points).

    Prompts have something of their own, answers too; trainings differ by `training_sd` tokens and points.
    """
    rows: list[ResultRow] = []
    points: dict[tuple[str, int, str], PointValues] = {}
    easy, long = rng.normal(0, 20, N_PROMPTS), rng.normal(0, 6, N_PROMPTS)
    ids = tuple(map(str, range(N_PROMPTS)))
    for objective in OBJECTIVES:
        for setting in range(n_settings):
            for seed in range(n_seeds):
                trial = f"{objective}-{setting}-{seed}"
                settings = {"beta": str(setting)} | ({"seed": str(seed)} if n_seeds > 1 else {})
                shift = rng.normal(0, training_sd, 2) if training_sd else (0.0, 0.0)
                for t, (length, win) in enumerate(PATH):
                    moved = t and 1.0
                    mean_length = length + moved * (shift[0] + (longer or {}).get(objective, 0.0))
                    mean_win = win + moved * (shift[1] + (better or {}).get(objective, 0.0))
                    chance = np.clip((mean_win + moved * easy) / 100, 0.02, 0.98)
                    columns = {
                        "judged_win_rate": 100.0 * (rng.random(N_PROMPTS) < chance),
                        "win_rate": 100.0 * (rng.random(N_PROMPTS) < chance),
                        "length_tokens": mean_length + long + rng.normal(0, 8, N_PROMPTS),
                    }
                    points[trial, t, "micro"] = PointValues(ids, columns)
                    rows.append(ResultRow(trial, objective, settings, t, "complete", _metrics(columns)))
    chosen = select_per_objective(rows, parse_rule("corner"), MICRO)
    return check_claims(rows, chosen, MICRO, PromptValues(points))


def _metrics(columns: Mapping[str, np.ndarray]) -> dict[str, float]:
    means = {f"micro/{name}": float(values.mean()) for name, values in columns.items()}
    errors = {f"micro/{name}_se": float(values.std(ddof=1)) / math.sqrt(N_PROMPTS) for name, values in columns.items()}
    return means | errors


def said_of_differences(found: Ordering) -> list[str]:
    """Everything that calls contenders different. That length grows is true here, and that NLL's effect is marginal."""
    claims = [
        claim.text
        for claim in found.claims
        if claim.verdict != "undecided" and not (claim.text.startswith("The NLL") and claim.verdict == "holds")
    ]
    return claims + [
        f"{one.question} {one.answer}"
        for one in found.findings[1:]
        if not one.answer.startswith(("Undecided", "No objective clearly"))
    ]


@pytest.mark.parametrize(
    ("n_seeds", "n_settings", "training_sd", "n_sweeps"), [(5, 1, 3.0, 120), (3, 2, 3.0, 40), (1, 4, 0.0, 40)]
)
def test_equal_trials_are_not_called_different(
    n_seeds: int, n_settings: int, training_sd: float, n_sweeps: int
) -> None:
    """False statements, anywhere in the report, in at most 5 % of sweeps, and a binomial's 95 % of luck."""
    rng = np.random.default_rng(2026)
    false = [bool(said_of_differences(simulate(rng, n_seeds, n_settings, training_sd))) for _ in range(n_sweeps)]
    assert sum(false) <= 0.05 * n_sweeps + 1.65 * math.sqrt(0.05 * 0.95 * n_sweeps)


def test_with_one_seed_nothing_is_said_to_hold() -> None:
    found = simulate(np.random.default_rng(0), 1, longer={"simpo": 40.0}, better={"simpo": -40.0})
    verdicts = {claim.verdict for claim in found.claims}
    assert "seen with one seed" in verdicts
    assert not verdicts & {"holds", "does not hold"}
    answers = {one.question: one.answer for one in found.findings}
    assert answers["Under which objective does length grow most?"] == "With this one seed: SimPO."
    assert all(text.startswith(("With this one seed", "Undecided", "No objective")) for text in answers.values())


def test_real_differences_are_found() -> None:
    """With five seeds: SimPO 15 tokens longer (5 standard deviations of a training), and 25 points worse."""
    rng = np.random.default_rng(5)
    n_sweeps, longest, loses = 25, 0, 0
    for _ in range(n_sweeps):
        found = simulate(rng, 5, training_sd=3.0, longer={"simpo": 15.0}, better={"simpo": -25.0})
        longest += next(claim.verdict for claim in found.claims if claim.text.startswith("SimPO's")) == "holds"
        answers = {one.question: one.answer for one in found.findings}
        assert answers["Does length grow under every objective?"] == "Yes."
        loses += "SimPO" in answers["Who wins at the same length, by the judge?"]
    assert longest >= 0.9 * n_sweeps and loses >= 0.8 * n_sweeps


def test_the_best_of_many_equal_settings_is_no_better() -> None:
    """Without counting the settings it was picked among, the pick of many would be called better far too often."""
    rng = np.random.default_rng(11)
    false = 0
    for _ in range(20):
        found = simulate(rng, 1, 12)
        false += bool(said_of_differences(found))
    assert false <= 3
