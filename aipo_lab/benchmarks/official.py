"""What benchmarks with questions of their own have in common: settings, questions, answers, and what judging gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field, field_validator

from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.core.config import StrictModel
from aipo_lab.core.progress import Progress


class OfficialBenchmarkSettings(StrictModel):
    """What a recipe says about an official benchmark."""

    limit: int | None = Field(
        None, ge=1, description="questions (none: all); cut as the benchmark's rules have it, else evenly"
    )
    iterations: Literal["all", "last"] | list[int] = Field(
        "all", description="iterations it is evaluated at, 0 being the base model: all, last, or their numbers"
    )
    baseline: Literal["official", "base_model"] = Field(
        "official", description="whose answers are compared with (mt_bench grades answers on their own)"
    )
    temperature: float | None = Field(
        None, ge=0, le=10, description="of answers; left out: the question's by the benchmark's rules"
    )
    top_p: float = Field(1.0, gt=0, le=1, description="share of probability mass sampled from (1 = all)")
    top_k: int = Field(0, ge=0, description="number of likeliest tokens sampled from (0 = all)")
    max_new_tokens: int = Field(2048, ge=1, description="cap on an answer's length in tokens, end token included")

    @field_validator("iterations")
    @classmethod
    def _some_iterations(cls, value: object) -> object:
        if isinstance(value, list) and (not value or min(value) < 0 or len(set(value)) < len(value)):
            raise ValueError("must be all, last, or a list of different numbers from 0 on")
        return value

    def evaluates(self, iteration: int, last: int) -> bool:
        """Whether iteration t of 0 … `last` is evaluated."""
        if isinstance(self.iterations, list):
            return iteration in self.iterations
        return self.iterations == "all" or iteration == last


@dataclass(frozen=True)
class Question:
    """A question of one or two user turns; `temperature` is None where the benchmark's rules are silent."""

    id: str
    turns: tuple[str, ...]
    category: str = ""
    temperature: float | None = None


@dataclass(frozen=True)
class Answer:
    """A model's answer, one text per turn of the question.

    `truncated`: whether a cap cut the last turn off; `tokens`: the length of all turns in the model's own tokens, where
    it is known.
    """

    question_id: str
    turns: tuple[str, ...]
    truncated: bool = False
    tokens: int | None = None


@dataclass(frozen=True)
class Judged:
    """The outcome of judging a model's answers.

    `scores`: by metric name. `judgments`: rows of the benchmark's official judgment file. `unjudged`: what has no
    verdict, by question (or question and game or turn), with the reason; a benchmark with any is not complete.
    `notes`: sentences that a reader of the scores has to know.
    """

    scores: Mapping[str, Estimate]
    judgments: Sequence[Mapping[str, Any]]
    unjudged: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one game, turn or pair: its `name`, the verdict as the judge gives it, and its words."""

    name: str
    verdict: str
    text: str


@dataclass(frozen=True)
class JudgedQuestion:
    """One question's outcome, in the same form for all benchmarks.

    `preference`: 1 win to 0 loss against the baseline, or None without one; `score`: the mean rating, or None where
    answers are compared.
    """

    id: str
    preference: float | None
    score: float | None
    verdicts: tuple[Verdict, ...]


class OfficialBenchmark(Protocol):
    """One benchmark with its files loaded."""

    @property
    def questions(self) -> Sequence[Question]:
        """The questions, in official order, cut to the limit the benchmark was loaded with."""
        ...

    def judge(
        self,
        model: str,
        answers: Sequence[Answer],
        baseline: Sequence[Answer] | None,
        judge: Any,
        progress: Progress,
    ) -> Judged:
        """Judge the answers of `model` (its unique name), against `baseline`'s or the official baseline's if None.

        `judge` is a `Judge`, or None if the benchmark's entry says that it needs none.
        """
        ...

    def baseline_answers(self) -> Sequence[Answer]:
        """The official baseline's answers to the questions; none where answers are graded on their own."""
        ...

    def read_answers(self, path: Path) -> tuple[str, list[Answer]]:
        """The model's name and its answers to the questions, from an official answer file.

        Raises `UserError` for another kind of file, for one with several models, and for missing answers.
        """
        ...

    def write_answers(self, folder: Path, model: str, answers: Sequence[Answer]) -> Path:
        """Write the official answer file where the official tools look for it below `folder`; returns its path."""
        ...

    def write_judgments(self, folder: Path, model: str, judge: str, judged: Judged) -> Path:
        """Write the official judgment file where the official tools look for it below `folder`; returns its path."""
        ...

    def by_question(self, judged: Judged) -> list[JudgedQuestion]:
        """The outcome of each question with a judgment, in the order of the questions."""
        ...


def official_file(folder: Path, *parts: str) -> Path:
    """The path of an official file below `folder`, whose folders are made."""
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def file_name(name: str) -> str:
    """A model's or judge's name as a file name: hub ids and paths have slashes."""
    return name.strip("/").replace("/", "--")
