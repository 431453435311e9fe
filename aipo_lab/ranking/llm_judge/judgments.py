"""Judgments of candidates: every distinct question asked once, replies read, and what was of no use counted.

A judgment, as records have it: `question` (its number in the record), `text`, and `value`, or null and the `problem`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from aipo_lab.core.progress import Progress
from aipo_lab.ranking.llm_judge.asking import Asked, Question, Reply

Read = Callable[[str], float | None]
Judgments = list[list[dict[str, Any]]]
"""By question, a judgment for each sample."""

NO_READING = "nothing that the pattern finds"


def ask_all(
    asked: Asked, questions: Sequence[Question], samples: int, read: Read, progress: Progress
) -> tuple[Judgments, list[list[Reply]]]:
    """The judgments of every question, and the replies they were read off."""
    texts = [question.text for question in questions if question.text is not None]
    made = iter(asked.ask(texts, samples, progress))
    judgments, replies = [], []
    for question in questions:
        got = [Reply(problem="the question does not fit the policy")] * samples if question.text is None else next(made)
        judged = [_judgment(reply, read) for reply in got]
        for sample, one in enumerate(judged):
            if question.text is not None and one["value"] is None and one["problem"] == NO_READING:
                asked.discard(question.text, sample, NO_READING)
        judgments.append(judged)
        replies.append(got)
    return judgments, replies


def _judgment(reply: Reply, read: Read) -> dict[str, Any]:
    if reply.problem:
        return {"text": "", "value": None, "problem": reply.problem}
    value = read(reply.text)
    return {"text": reply.text, "value": value} | ({"problem": NO_READING} if value is None else {})


def mean_value(judgments: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean of those that have a value; None if none has."""
    values = [one["value"] for one in judgments if one["value"] is not None]
    return fmean(values) if values else None
