"""MT-Bench: 80 two-turn questions in eight categories, every answer graded from 1 to 10 by a judge, on its own."""

from aipo_lab.benchmarks.mt_bench.benchmark import MtBench
from aipo_lab.benchmarks.mt_bench.judgments import FileScores, score_mt_bench

__all__ = ["FileScores", "MtBench", "score_mt_bench"]
