"""A base for benchmarks without official file formats: answers and judgments as JSON lines, one row a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.official import Answer, Judged, JudgedQuestion, Question, file_name, official_file
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl, write_jsonl

ANSWER_FILE = "answers/*.jsonl"
"""The `answer_file` of a plain benchmark's entry."""


class PlainBenchmark:
    """An `OfficialBenchmark` but for `load` and `judge`, which a subclass adds.

    Its judgments are rows with the keys `id` (the question's), `preference` (1 win to 0 loss, or None) and `score`.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = tuple(questions)

    def baseline_answers(self) -> Sequence[Answer]:
        """None: there is no official baseline."""
        return ()

    def read_answers(self, path: Path) -> tuple[str, list[Answer]]:
        """See `OfficialBenchmark`; rows hold `model`, `id` and `turns`."""
        rows: list[dict[str, Any]] = read_jsonl(path)
        models = sorted({str(row.get("model")) for row in rows})
        by_id = {row.get("id"): row for row in rows}
        missing = [question.id for question in self.questions if question.id not in by_id]
        if len(models) != 1 or missing:
            raise UserError(
                f"{path} must hold one model's answers to all questions; it has the models {', '.join(models)} "
                f"and lacks {len(missing)} questions{f', first {missing[0]}' if missing else ''}"
            )
        return models[0], [Answer(question.id, tuple(by_id[question.id]["turns"])) for question in self.questions]

    def write_answers(self, folder: Path, model: str, answers: Sequence[Answer]) -> Path:
        """Write `answers/<model>.jsonl`."""
        path = official_file(folder, "answers", f"{file_name(model)}.jsonl")
        write_jsonl(path, ({"model": model, "id": one.question_id, "turns": list(one.turns)} for one in answers))
        return path

    def write_judgments(self, folder: Path, model: str, judge: str, judged: Judged) -> Path:
        """Write `judgments/<model>.jsonl`."""
        path = official_file(folder, "judgments", f"{file_name(model)}.jsonl")
        write_jsonl(path, ({"model": model, "judge": judge, **row} for row in judged.judgments))
        return path

    def by_question(self, judged: Judged) -> list[JudgedQuestion]:
        """See `OfficialBenchmark`."""
        return [_by_question(row) for row in judged.judgments]


def _by_question(row: Mapping[str, Any]) -> JudgedQuestion:
    return JudgedQuestion(str(row["id"]), row.get("preference"), row.get("score"), ())
