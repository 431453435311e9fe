"""What each benchmark measures: the names, labels and units that figures, selection and reports use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BenchmarkMetrics:
    """The headline metrics of a benchmark, as full names (`<benchmark>/<metric>`).

    `win_rate` is what the paper's plots put on the vertical axis: the judge's own, length-biased rate.
    `true_win_rate` exists only where true quality is known. `win_bounds` are the ends of its axis for the rule
    `corner`: the worst value that is worth telling from others, and the best there can be.
    """

    win_rate: str
    win_rate_label: str
    length: str | None
    length_label: str
    lc_win_rate: str | None = None
    true_win_rate: str | None = None
    quality: str | None = None
    win_bounds: tuple[float, float] = (0.0, 100.0)


def embedded_metrics(name: str) -> BenchmarkMetrics:
    """The headline metrics of an embedded benchmark."""
    return BenchmarkMetrics(
        win_rate=f"{name}/judged_win_rate",
        win_rate_label="Win rate by length-biased judge (%)",
        length=f"{name}/length_tokens",
        length_label="Mean response length (tokens)",
        lc_win_rate=f"{name}/lc_win_rate",
        true_win_rate=f"{name}/win_rate",
        quality=f"{name}/quality",
        win_bounds=(50.0, 100.0),  # the opponent is the base model, so that 50 is no change
    )
