"""MT-Bench as a benchmark: its questions, and grading a model's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import aipo_lab.assets.library as assets
from aipo_lab.assets.mt_bench import FILES, MT_BENCH
from aipo_lab.benchmarks.mt_bench.answers import answer_rows, check_answers, read_answers
from aipo_lab.benchmarks.mt_bench.judgments import judgment_row
from aipo_lab.benchmarks.mt_bench.prompts import Grading, GradingCall, reference_model
from aipo_lab.benchmarks.mt_bench.questions import TURNS, read_questions, spread_over_categories, turn_label
from aipo_lab.benchmarks.mt_bench.rating import NO_RATING, Unrated, rating_notes, rating_of
from aipo_lab.benchmarks.mt_bench.scores import mt_bench_scores
from aipo_lab.benchmarks.official import Answer, Judged, JudgedQuestion, Question, Verdict, file_name, official_file
from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.core.progress import Progress
from aipo_lab.judging.calls import Judge, JudgeReply, Outcome


@dataclass(frozen=True)
class MtBench:
    """MT-Bench with its files loaded (an `OfficialBenchmark`)."""

    questions: tuple[Question, ...]
    grading: Grading

    @classmethod
    def load(cls, limit: int | None = None) -> MtBench:
        """The benchmark from its asset; `limit` questions are spread evenly over the categories.

        Raises `UserError`, naming the command that obtains the files, when one is missing or not the official one.
        """
        folder = _official_files(assets.find(MT_BENCH.name))
        return cls(spread_over_categories(read_questions(folder / "question.jsonl"), limit), Grading.load(folder))

    def judge(
        self,
        model: str,
        answers: Sequence[Answer],
        baseline: Sequence[Answer] | None,  # noqa: ARG002 - answers are graded one by one: there is no baseline
        judge: Judge,
        progress: Progress,
    ) -> Judged:
        """Have both turns of every answer graded; `baseline` plays no part.

        The references are those of `reference_model(judge.name)`. A reply without a rating is discarded, so that the
        next run asks again; its row has the official score -1, is listed in `unjudged` and counts in no score.
        Raises `UserError` when answers are missing or of the wrong shape, before the judge is asked anything.
        """
        by_id = check_answers(model, answers, self.questions)
        references = reference_model(judge.name)
        calls = [
            self.grading.call(question, by_id[question.id], turn, references)
            for question in self.questions
            for turn in TURNS
        ]
        return _judged(model, judge, calls, judge.ask([call.request for call in calls], progress))

    def baseline_answers(self) -> Sequence[Answer]:
        """None: answers are graded one by one."""
        return ()

    def read_answers(self, path: Path) -> tuple[str, list[Answer]]:
        """See `OfficialBenchmark`."""
        model, answers = read_answers(path)
        by_id = check_answers(model, answers, self.questions)
        return model, [by_id[question.id] for question in self.questions]

    def write_answers(self, folder: Path, model: str, answers: Sequence[Answer]) -> Path:
        """Write `model_answer/<model>.jsonl`."""
        path = official_file(folder, "model_answer", f"{file_name(model)}.jsonl")
        write_jsonl(path, answer_rows(model, answers))
        return path

    def write_judgments(self, folder: Path, model: str, judge: str, judged: Judged) -> Path:  # noqa: ARG002
        """Write `model_judgment/<judge>_single.jsonl`."""
        path = official_file(folder, "model_judgment", f"{file_name(judge)}_single.jsonl")
        write_jsonl(path, judged.judgments)
        return path

    def by_question(self, judged: Judged) -> list[JudgedQuestion]:
        """Both turns of each question; the score is the mean of their ratings."""
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for row in judged.judgments:
            rows.setdefault(str(row["question_id"]), []).append(row)
        return [_judged_question(question.id, rows[question.id]) for question in self.questions if question.id in rows]


def _judged_question(id_: str, rows: Sequence[Mapping[str, Any]]) -> JudgedQuestion:
    ratings = [row["score"] for row in rows if row["score"] != NO_RATING]
    verdicts = (
        Verdict(f"turn {row['turn']}", "none" if row["score"] == NO_RATING else f"{row['score']:g}", row["judgment"])
        for row in rows
    )
    return JudgedQuestion(id_, None, fmean(ratings) if ratings else None, tuple(verdicts))


def _official_files(folder: Path) -> Path:
    altered = [file.name for file in FILES if sha256_of(folder / file.name) != file.sha256]
    if altered:
        raise UserError(
            f"not the official files: {', '.join(altered)} in {folder}; "
            f"obtain them again with: aipo-lab assets fetch {MT_BENCH.name}"
        )
    return folder


def _judged(model: str, judge: Judge, calls: Sequence[GradingCall], outcomes: Sequence[Outcome]) -> Judged:
    ratings, unjudged, rows = {}, {}, []
    for call, outcome in zip(calls, outcomes, strict=True):
        label = turn_label(call.question_id, call.turn)
        if not isinstance(outcome, JudgeReply):
            unjudged[label] = outcome.reason
            continue
        rating = rating_of(outcome.text)
        if isinstance(rating, Unrated):
            unjudged[label] = f"{rating.reason} (the reply ended by: {outcome.finish_reason})"
            judge.discard(call.request, rating.reason)
            rating = NO_RATING
        else:
            ratings[int(call.question_id), call.turn] = rating
        rows.append(judgment_row(model, judge.name, call, outcome.text, rating))
    notes = rating_notes([row["judgment"] for row in rows])
    return Judged(mt_bench_scores(ratings), rows, unjudged, notes)
