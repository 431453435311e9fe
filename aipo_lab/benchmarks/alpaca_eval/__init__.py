"""AlpacaEval 2: 805 questions, a judge's log-probabilities for the model's answer or the baseline's, length control.

Annotator, prompt, parser and official metrics are those of the package `alpaca-eval`; its habits are not: nothing
is written into site-packages or downloaded, and a failed call is a state with a reason instead of a cached −1.
"""

from aipo_lab.benchmarks.alpaca_eval.benchmark import AlpacaEval
from aipo_lab.benchmarks.alpaca_eval.formats import read_annotations, read_outputs, write_annotations, write_outputs
from aipo_lab.benchmarks.alpaca_eval.results import AlpacaEvalJudged
from aipo_lab.benchmarks.alpaca_eval.scoring import score_alpaca_eval

__all__ = [
    "AlpacaEval",
    "AlpacaEvalJudged",
    "read_annotations",
    "read_outputs",
    "score_alpaca_eval",
    "write_annotations",
    "write_outputs",
]
