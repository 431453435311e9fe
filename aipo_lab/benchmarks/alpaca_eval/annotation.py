"""Annotating pairs of answers: the package's annotator (prompt, order, parser) with our judge making the calls."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from aipo_lab.benchmarks.alpaca_eval.package import contained, package_module
from aipo_lab.benchmarks.official import file_name
from aipo_lab.core.progress import Progress
from aipo_lab.judging.calls import Judge, JudgeReply, JudgeRequest, Message, Outcome

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
OFFICIAL_JUDGE = "gpt-4-1106-preview"
RESULTS = ("preference", "preference_version", "preference_raw_completion")
"""What the package adds to a pair and annotations keep; its date, time and price would differ from run to run."""


def annotator_name(judge: str) -> str:
    """The annotator's name with this judge; only the official judge's ratings bear the official name."""
    return ANNOTATOR if judge == OFFICIAL_JUDGE else f"weighted_alpaca_eval_{file_name(judge)}"


def annotate(
    pairs: Sequence[Mapping[str, Any]], judge: Judge, progress: Progress
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Official annotations of `pairs` in their order, and why there is no preference, by place in `pairs`.

    Pairs have the official keys `instruction`, `output_1`, `output_2` and others that are kept. Equal outputs are
    a draw (1.5) without a call. A reply without a verdict is discarded, so that the next run asks again.
    """
    annotations = [{**pair, "annotator": annotator_name(judge.name), "preference": 1.5} for pair in pairs]
    differing = [n for n, pair in enumerate(pairs) if pair["output_1"] != pair["output_2"]]
    if not differing:
        return annotations, {}
    annotator, calls = _package_annotator(judge, progress)
    pandas: Any = importlib.import_module("pandas")
    with contained():
        table = annotator(pandas.DataFrame([pairs[n] for n in differing], index=differing, dtype=object))
    results = table[list(RESULTS)].to_dict(orient="index")  # without the rows that have no preference
    unjudged = {}
    for call, n in enumerate(differing):
        if n in results:
            annotations[n].update(results[n], preference=float(results[n]["preference"]))
        else:
            annotations[n]["preference"] = None
            unjudged[n] = calls.give_up(call)
    return annotations, unjudged


def _package_annotator(judge: Judge, progress: Progress) -> tuple[Any, _Calls]:
    """The package's annotator with its own settings and seed, and the calls it makes instead of OpenAI's."""
    utils, constants = package_module("alpaca_eval.utils"), package_module("alpaca_eval.constants")
    (settings,) = utils.load_configs(ANNOTATOR, relative_to=constants.EVALUATORS_CONFIG_DIR).values()
    template = utils.read_or_return(settings["prompt_template"], relative_to=constants.EVALUATORS_CONFIG_DIR)
    # Splitting the template into messages, rather than every prompt as the package does, keeps ChatML marks inside
    # an answer from ending the message there; prompts without such marks are the same.
    system, user = utils.prompt_to_chatml(template)
    calls = _Calls(judge, progress, Message(system["role"], system["content"]))
    annotator = package_module("alpaca_eval.annotators").SinglePairwiseAnnotator(
        **{**settings, "fn_completions": calls},
        seed=0,
        is_shuffle=False,  # so that the k-th prompt is the k-th pair's
        annotation_column="preference",
        completion_column="preference_raw_completion",
    )
    annotator.prompt_template = user["content"]
    return annotator, calls


class _Calls:
    """The package's completion function: puts its prompts to the judge and keeps the outcomes in their order."""

    def __init__(self, judge: Judge, progress: Progress, system: Message) -> None:
        self._judge = judge
        self._progress = progress
        self._system = system
        self._requests: list[JudgeRequest] = []
        self._outcomes: list[Outcome] = []

    def __call__(
        self, prompts: Sequence[str], *, max_tokens: int, temperature: float, top_logprobs: int, **_: Any
    ) -> dict[str, list[Any]]:
        """Completions in the package's form; an unanswered call is "", which the package counts as no preference."""
        self._requests = [
            JudgeRequest((self._system, Message("user", prompt)), max_tokens, float(temperature), top_logprobs)
            for prompt in prompts
        ]
        self._outcomes = self._judge.ask(self._requests, self._progress)
        return {"completions_all": [_choice(o) if isinstance(o, JudgeReply) else "" for o in self._outcomes]}

    def give_up(self, call: int) -> str:
        """Why this call gave no preference; a reply without a verdict is discarded."""
        outcome = self._outcomes[call]
        if not isinstance(outcome, JudgeReply):
            return outcome.reason
        tokens = ", ".join(repr(token) for token, _ in outcome.first_token_logprobs) or "without log-probabilities"
        reason = f"neither 'm' nor 'M' is among the likeliest first tokens of the judge's reply ({tokens})"
        self._judge.discard(self._requests[call], reason)
        return reason


def _choice(reply: JudgeReply) -> dict[str, Any]:
    """The reply as an OpenAI choice, which the package's parser reads and annotation files hold.

    Tokens of probability 0 are left out, which the package counts as just that: JSON has no infinities.
    """
    possible = [(token, logprob) for token, logprob in reply.first_token_logprobs if math.isfinite(logprob)]
    likeliest = [{"token": token, "logprob": logprob} for token, logprob in possible]
    return {
        "finish_reason": reply.finish_reason,
        "index": 0,
        "logprobs": {"content": [{"token": reply.text, "top_logprobs": likeliest}]},
        "message": {"content": reply.text, "role": "assistant"},
        "text": reply.text,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }
