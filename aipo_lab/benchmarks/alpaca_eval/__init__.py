"""AlpacaEval 2: 805 questions, a judge's log-probabilities for the model's answer or the baseline's, length control.

Annotator, prompt, parser and official metrics are those of the package `alpaca-eval`; its habits are not: nothing
is written into site-packages or downloaded, and a failed call is a state with a reason instead of a cached −1.
"""

from aipo_lab.benchmarks.alpaca_eval.settings import AlpacaEvalSettings
from aipo_lab.benchmarks.catalogue import BENCHMARKS, OFFICIAL_PACKAGES, OfficialEntry
from aipo_lab.benchmarks.metrics import BenchmarkMetrics

BENCHMARKS.add(
    "alpaca_eval",
    OfficialEntry(
        settings=AlpacaEvalSettings,
        title="AlpacaEval 2",
        loader="aipo_lab.benchmarks.alpaca_eval.benchmark:AlpacaEval",
        assets=("alpaca-eval",),
        requires=("alpaca_eval",),
        install=OFFICIAL_PACKAGES,
        answer_file="model_outputs.json",
        metrics=("lc_win_rate", "win_rate", "length_chars"),
        n_questions=805,
        headline=BenchmarkMetrics(
            win_rate="alpaca_eval/win_rate",
            win_rate_label="AlpacaEval 2 win rate (%)",
            length="alpaca_eval/length_chars",
            length_label="Mean response length (characters)",
            lc_win_rate="alpaca_eval/lc_win_rate",
        ),
    ),
)
