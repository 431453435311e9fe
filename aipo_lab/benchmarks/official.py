"""What the three official benchmarks have in common: questions, answers, and what judging them gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aipo_lab.judging.calls import Judge
from aipo_lab.length_control import Estimate
from aipo_lab.progress import Progress


@dataclass(frozen=True)
class Question:
    """A question of one or two user turns; `temperature` is None where the benchmark's rules are silent."""

    id: str
    turns: tuple[str, ...]
    category: str = ""
    temperature: float | None = None


@dataclass(frozen=True)
class Answer:
    """A model's answer, one text per turn of the question. `truncated`: whether a cap cut the last turn off."""

    question_id: str
    turns: tuple[str, ...]
    truncated: bool = False


@dataclass(frozen=True)
class Judged:
    """The outcome of judging a model's answers.

    `scores`: by metric name. `judgments`: rows of the benchmark's official judgment file. `unjudged`: what has no
    verdict, by question (or question and game or turn), with the reason; a benchmark with any is not complete.
    """

    scores: Mapping[str, Estimate]
    judgments: Sequence[Mapping[str, Any]]
    unjudged: Mapping[str, str] = field(default_factory=dict)


class OfficialBenchmark(Protocol):
    """One benchmark with its files loaded."""

    @property
    def questions(self) -> Sequence[Question]:
        """The questions, in official order, cut to the limit the benchmark was loaded with."""
        ...

    def judge(
        self, model: str, answers: Sequence[Answer], baseline: Sequence[Answer] | None, judge: Judge, progress: Progress
    ) -> Judged:
        """Judge the answers of `model` (its unique name), against `baseline`'s or the official baseline's if None."""
        ...
