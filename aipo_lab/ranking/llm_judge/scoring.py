"""From judgments to scores: points for every response, or win rates of every two responses in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations
from statistics import fmean
from typing import Any

from aipo_lab.core.progress import Progress
from aipo_lab.ranking.llm_judge.asking import Asked, Question, Reply
from aipo_lab.ranking.llm_judge.judgments import Judgments, ask_all, mean_value
from aipo_lab.ranking.llm_judge.reading import read_score, read_verdict
from aipo_lab.ranking.llm_judge.settings import LLMJudgeSettings
from aipo_lab.ranking.llm_judge.templates import shipped

ALONE = 0.5
"""The win rate of a response that met no other: as of one that tied."""


@dataclass
class JudgedRow:
    """What was judged of one row. `texts`: its distinct responses, in order; `places`: of each response, which it is.

    `subjects`: what each question was about: one text, or the first and the second.
    """

    row: Mapping[str, Any]
    texts: list[str]
    places: list[int]
    subjects: list[tuple[int, ...]]
    questions: list[Question] = field(default_factory=list)
    judgments: Judgments = field(default_factory=list)
    replies: list[list[Reply]] = field(default_factory=list)

    @classmethod
    def of(cls, row: Mapping[str, Any], n_subjects: int) -> JudgedRow:
        """A row whose questions are about so many texts each, in every order."""
        texts = list(dict.fromkeys(response["text"] for response in row["responses"]))
        numbers = {text: number for number, text in enumerate(texts)}
        places = [numbers[response["text"]] for response in row["responses"]]
        return cls(row, texts, places, list(permutations(range(len(texts)), n_subjects)))

    def record(self) -> dict[str, Any]:
        """The judgments, and what they were about: candidates, of equal ones the first."""
        candidates = [self.places.index(number) for number in range(len(self.texts))]
        return {
            "judged": [
                {"candidates": [candidates[number] for number in subject], "cut": question.is_cut, "judgments": judged}
                for subject, question, judged in zip(self.subjects, self.questions, self.judgments, strict=True)
            ]
        }


def judge_rows(
    rows: Sequence[Mapping[str, Any]], asked: Asked, settings: LLMJudgeSettings, progress: Progress
) -> list[JudgedRow]:
    """The rows with their judgments; all questions are asked together."""
    pairwise = settings.mode == "pairwise"
    judged = [JudgedRow.of(row, 2 if pairwise else 1) for row in rows]
    template = settings.template or shipped(settings.mode)
    names = ("response_a", "response_b") if pairwise else ("response",)
    for one in judged:
        for subject in one.subjects:
            texts = {name: one.texts[number] for name, number in zip(names, subject, strict=True)}
            one.questions.append(asked.question(template, {"prompt": one.row["prompt"], **texts}))
    read = (
        partial(read_verdict, pattern=settings.verdict_pattern)
        if pairwise
        else partial(read_score, pattern=settings.score_pattern)
    )
    questions = [question for one in judged for question in one.questions]
    judgments, replies = ask_all(asked, questions, settings.samples, read, progress)
    start = 0
    for one in judged:
        end = start + len(one.questions)
        one.judgments, one.replies = judgments[start:end], replies[start:end]
        start = end
    return judged


def additive_scores(judged: JudgedRow) -> list[float | None]:
    """Of every response the mean of its points; None where no judgment has any."""
    points = [mean_value(judgments) for judgments in judged.judgments]
    return [points[place] for place in judged.places]


def win_rates(judged: JudgedRow) -> list[float | None]:
    """Of every response how often it beats the row's others, ties half; its own copies tie. None without a verdict."""
    n = len(judged.texts)
    won: list[list[float]] = [[] for _ in range(n)]  # by text, its mean result in each question
    met: list[list[int]] = [[] for _ in range(n)]
    for (first, second), judgments in zip(judged.subjects, judged.judgments, strict=True):
        value = mean_value(judgments)
        if value is not None:
            won[first].append(value)
            met[first].append(second)
            won[second].append(1 - value)
            met[second].append(first)
    copies = [judged.places.count(number) for number in range(n)]

    def rate(number: int) -> float | None:
        if n > 1 and not won[number]:
            return None
        results = [(result, copies[other]) for result, other in zip(won[number], met[number], strict=True)]
        results += [(ALONE, 2 * (copies[number] - 1))] if copies[number] > 1 else []
        games = sum(count for _, count in results)
        return sum(result * count for result, count in results) / games if games else ALONE

    rates = [rate(number) for number in range(n)]
    return [rates[place] for place in judged.places]


def order_disagreement(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the pairs with a verdict in both orders, the share whose verdicts name different winners; None without any."""
    disagreed = []
    for record in records:
        results = {
            tuple(one["candidates"]): value
            for one in record["judged"]
            if (value := mean_value(one["judgments"])) is not None
        }
        for (first, second), value in results.items():
            if first < second and (second, first) in results:
                disagreed.append((value - 0.5) * (results[second, first] - 0.5) > 0)
    return fmean(disagreed) if disagreed else None
