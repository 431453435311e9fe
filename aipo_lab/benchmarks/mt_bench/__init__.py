"""MT-Bench: 80 two-turn questions in eight categories, every answer graded from 1 to 10 by a judge, on its own."""

from aipo_lab.benchmarks.catalogue import BENCHMARKS, OfficialEntry
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.benchmarks.mt_bench.settings import MtBenchSettings

BENCHMARKS.add(
    "mt_bench",
    OfficialEntry(
        settings=MtBenchSettings,
        title="MT-Bench",
        loader="aipo_lab.benchmarks.mt_bench.benchmark:MtBench",
        assets=("mt-bench",),
        answer_file="model_answer/*.jsonl",
        metrics=("score", "score_turn1", "score_turn2"),
        n_questions=80,
        n_turns=2,
        verdicts_per_question=2,
        headline=BenchmarkMetrics(
            win_rate="mt_bench/score",
            win_rate_label="MT-Bench score (1-10)",
            length=None,
            length_label="",
            win_bounds=(1.0, 10.0),
        ),
    ),
)
