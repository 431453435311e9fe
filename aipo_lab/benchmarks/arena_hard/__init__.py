"""Arena-Hard v0.1: 500 questions; a judge compares each answer with the baseline's, twice, with sides swapped."""

from aipo_lab.benchmarks.arena_hard.settings import ArenaHardSettings
from aipo_lab.benchmarks.catalogue import BENCHMARKS, OFFICIAL_PACKAGES, OfficialEntry
from aipo_lab.benchmarks.metrics import BenchmarkMetrics

BENCHMARKS.add(
    "arena_hard",
    OfficialEntry(
        settings=ArenaHardSettings,
        title="Arena-Hard v0.1",
        loader="aipo_lab.benchmarks.arena_hard.benchmark:ArenaHard",
        assets=("arena-hard", "cl100k-base"),
        requires=("tiktoken",),
        install=OFFICIAL_PACKAGES,
        answer_file="model_answer/*.jsonl",
        metrics=("win_rate", "win_rate_ci_low", "win_rate_ci_high", "lc_win_rate", "length_tokens"),
        n_questions=500,
        verdicts_per_question=2,
        headline=BenchmarkMetrics(
            win_rate="arena_hard/win_rate",
            win_rate_label="Arena-Hard v0.1 win rate (%)",
            length="arena_hard/length_tokens",
            length_label="Mean response length (tokens)",
            lc_win_rate="arena_hard/lc_win_rate",
        ),
    ),
)
