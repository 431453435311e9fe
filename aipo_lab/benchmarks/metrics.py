"""What each benchmark measures: the names, labels and units that figures, selection and reports use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BenchmarkMetrics:
    """The headline metrics of a benchmark, as full names (`<benchmark>/<metric>`).

    `win_rate` is what the paper's plots put on the vertical axis: the judge's own, length-biased rate.
    `true_win_rate` exists only where true quality is known.
    """

    win_rate: str
    win_rate_label: str
    length: str | None
    length_label: str
    lc_win_rate: str | None = None
    true_win_rate: str | None = None
    quality: str | None = None


def _embedded(name: str) -> BenchmarkMetrics:
    return BenchmarkMetrics(
        win_rate=f"{name}/judged_win_rate",
        win_rate_label="Win rate by length-biased judge (%)",
        length=f"{name}/length_tokens",
        length_label="Mean response length (tokens)",
        lc_win_rate=f"{name}/lc_win_rate",
        true_win_rate=f"{name}/win_rate",
        quality=f"{name}/quality",
    )


BENCHMARK_METRICS: dict[str, BenchmarkMetrics] = {
    "micro": _embedded("micro"),
    "constraints": _embedded("constraints"),
    "alpaca_eval": BenchmarkMetrics(
        win_rate="alpaca_eval/win_rate",
        win_rate_label="AlpacaEval 2 win rate (%)",
        length="alpaca_eval/length_chars",
        length_label="Mean response length (characters)",
        lc_win_rate="alpaca_eval/lc_win_rate",
    ),
    "arena_hard": BenchmarkMetrics(
        win_rate="arena_hard/win_rate",
        win_rate_label="Arena-Hard v0.1 win rate (%)",
        length="arena_hard/length_tokens",
        length_label="Mean response length (tokens)",
        lc_win_rate="arena_hard/lc_win_rate",
    ),
    "mt_bench": BenchmarkMetrics(
        win_rate="mt_bench/score", win_rate_label="MT-Bench score (1-10)", length=None, length_label=""
    ),
}
