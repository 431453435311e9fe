"""What a sweep will be able to tell apart, known before it runs: the smallest difference its prompts and seeds show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS, official_entry
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.results.power import smallest_rate_difference
from aipo_lab.sweeps.sweep import Sweep

SEED_SD = 3.0
"""Points by which the difference of two configurations is taken to vary from seed to seed, to show what that costs."""


def smallest_differences(sweep: Sweep) -> list[str]:
    """A sentence for each benchmark with a rate, on the first trial's settings."""
    recipe = sweep.trials[0].recipe
    n_seeds = n_repeats(sweep)
    return [
        _sentence(name, n_prompts, n_seeds)
        for name, n_prompts in _sizes(recipe)
        if not BENCHMARK_METRICS[name].win_rate.endswith("/score")
    ]


def n_repeats(sweep: Sweep) -> int:
    """The least number of seeds that a configuration of the sweep has."""
    groups: Counter[str] = Counter()
    for trial in sweep.trials:
        settings = {key: value for key, value in trial.settings.items() if key != "seed"}
        groups["" if len(sweep.trials) == 1 else repr(sorted(settings.items(), key=str))] += 1
    return min(groups.values())


def _sizes(recipe: Recipe) -> Iterator[tuple[str, int]]:
    """The benchmarks with the number of prompts each asks."""
    for name, embedded in recipe.benchmarks.embedded().items():
        yield name, embedded.n_prompts
    for name, official in recipe.benchmarks.official().items():
        yield name, min(official.limit or official_entry(name).n_questions, official_entry(name).n_questions)


def _sentence(name: str, n_prompts: int, n_seeds: int) -> str:
    one = smallest_rate_difference(n_prompts)
    text = f"{name}: the smallest difference in win rate that {n_prompts} prompts show between two trials is {one:.1f}"
    if n_seeds == 1:
        text += " points, for this one seed: what another would give is not known, and nothing will be said to hold"
    else:
        best = smallest_rate_difference(n_prompts, n_seeds)
        worse = smallest_rate_difference(n_prompts, n_seeds, SEED_SD)
        text += (
            f" points; between means of {n_seeds} seeds {best:.1f}, or {worse:.1f} if it varies by {SEED_SD:g} points "
            "from seed to seed"
        )
    return f"{text} (80 % power, level 5 %, paired by prompt)"
