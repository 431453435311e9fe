"""What judging or scoring a model on AlpacaEval 2 gives."""

from __future__ import annotations

from dataclasses import dataclass

from aipo_lab.benchmarks.official import Judged


@dataclass(frozen=True)
class AlpacaEvalJudged(Judged):
    """Scores and annotations of `model`, and what a reader of the scores has to know.

    `notes`: metrics that are not reported and why, rows that are left out. Metrics (percent but for the last):
    `lc_win_rate` is the official model's, its standard error a bootstrap over prompts; `lc_win_rate_by_row`, for files
    with few rows missing, what the official code gives them; `win_rate`; `length_chars` is the mean cut to an
    integer, as the leaderboard has it.
    """

    model: str = ""
