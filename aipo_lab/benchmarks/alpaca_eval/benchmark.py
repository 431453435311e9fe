"""AlpacaEval 2 as a benchmark: its questions, and judging a model's answers against the baseline's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aipo_lab.assets.alpaca_eval import ALPACA_EVAL, DF_GAMED, REFERENCE_OUTPUTS
from aipo_lab.assets.library import find
from aipo_lab.benchmarks.alpaca_eval.annotation import annotate, annotator_name
from aipo_lab.benchmarks.alpaca_eval.difficulty import Instructions
from aipo_lab.benchmarks.alpaca_eval.formats import quoted, read_outputs, write_annotations, write_outputs
from aipo_lab.benchmarks.alpaca_eval.metrics import Difficulty, mean_length, win_rates
from aipo_lab.benchmarks.alpaca_eval.results import AlpacaEvalJudged
from aipo_lab.benchmarks.official import Answer, Judged, JudgedQuestion, Question, Verdict, official_file
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json
from aipo_lab.core.progress import Progress
from aipo_lab.judging.calls import Judge

SUBSET_SEED = 123
"""The package's own for `max_instances`."""


@dataclass(frozen=True)
class OfficialFiles:
    """The official outputs of the baseline (805 rows in official order), and the length control's data."""

    reference: Sequence[Mapping[str, str]]
    instructions: Instructions

    @classmethod
    def find(cls) -> OfficialFiles:
        """The files of the fetched asset. Raises `UserError`, with the command that fetches it, when it is absent."""
        folder = find(ALPACA_EVAL.name)
        return cls(read_json(folder / REFERENCE_OUTPUTS), length_control_data())


def length_control_data() -> Instructions:
    """The official data where they have been fetched, else the package's own."""
    try:
        df_gamed = find(ALPACA_EVAL.name) / DF_GAMED
    except UserError:
        return Instructions.rebuilt()
    return Instructions.official(df_gamed) if df_gamed.is_file() else Instructions.rebuilt()


class AlpacaEval:
    """The 805 questions of AlpacaEval 2, or some of them. Implements `OfficialBenchmark`.

    A question's id is its place in the official order, from "0" on; its category is the dataset it came from.
    """

    def __init__(self, files: OfficialFiles, places: Sequence[int]) -> None:
        self._files = files
        self._places = places

    @classmethod
    def load(cls, limit: int | None = None) -> AlpacaEval:
        """The questions of the fetched asset; with a limit, those the package takes for `max_instances`.

        These are the first of a fixed shuffle, as the first in official order would all come from one dataset;
        a smaller limit takes a part of a larger one's. Raises `UserError` without the asset.
        """
        if limit is not None and limit < 1:
            raise UserError(f"AlpacaEval 2 cannot be cut to {limit} questions; give a limit of at least 1, or none")
        files = OfficialFiles.find()
        shuffled = np.random.RandomState(SUBSET_SEED).permutation(len(files.reference))
        return cls(files, sorted(int(place) for place in shuffled[:limit]))

    @property
    def questions(self) -> Sequence[Question]:
        """The questions in official order; the rules are silent on the temperature of answers."""
        rows = ((place, self._files.reference[place]) for place in self._places)
        return tuple(Question(str(place), (row["instruction"],), category=row["dataset"]) for place, row in rows)

    def judge(
        self, model: str, answers: Sequence[Answer], baseline: Sequence[Answer] | None, judge: Judge, progress: Progress
    ) -> AlpacaEvalJudged:
        """Judge the answers of `model` against `baseline`'s or, if None, GPT-4 Turbo's.

        Against another baseline the official length control is what the package gives there too, although its
        difficulties were fitted against GPT-4 Turbo.

        Raises `UserError` for answers that do not match the questions and for a model named as the baseline,
        which the package would give 50 % unseen.
        """
        reference = [self._files.reference[place] for place in self._places]
        baseline_name = reference[0]["generator"] if baseline is None else "baseline"
        if model == baseline_name:
            raise UserError(f"{model!r} is the name of the baseline in AlpacaEval 2; give the model another name")
        ours = self._texts(answers, model)
        theirs = [row["output"] for row in reference] if baseline is None else self._texts(baseline, "the baseline")
        pairs = [
            {
                "instruction": row["instruction"],
                "output_1": their_text,
                "generator_1": baseline_name,
                "dataset": row["dataset"],
                "output_2": our_text,
                "generator_2": model,
            }
            for row, their_text, our_text in zip(reference, theirs, ours, strict=True)
        ]
        return self._judged(model, ours, *annotate(pairs, judge, progress))

    def baseline_answers(self) -> Sequence[Answer]:
        """GPT-4 Turbo's answers."""
        return [Answer(str(place), (self._files.reference[place]["output"],)) for place in self._places]

    def read_answers(self, path: Path) -> tuple[str, list[Answer]]:
        """See `OfficialBenchmark`; a file that names no model gets its folder's name."""
        outputs = read_outputs(path)
        missing = [q.turns[0] for q in self.questions if q.turns[0] not in outputs.by_instruction]
        if missing:
            raise UserError(
                f"{path} lacks {len(missing)} of AlpacaEval 2's {len(self._places)} questions: {quoted(missing)}; "
                "answer them too, or limit the benchmark"
            )
        answers = [Answer(question.id, (outputs.by_instruction[question.turns[0]],)) for question in self.questions]
        return outputs.generator or path.resolve().parent.name, answers

    def write_answers(self, folder: Path, model: str, answers: Sequence[Answer]) -> Path:
        """Write `model_outputs.json`."""
        texts = zip(self.questions, self._texts(answers, model), strict=True)
        path = official_file(folder, "model_outputs.json")
        write_outputs(path, model, ((question.category, question.turns[0], text) for question, text in texts))
        return path

    def write_judgments(self, folder: Path, model: str, judge: str, judged: Judged) -> Path:  # noqa: ARG002
        """Write `<annotator>/annotations.json`."""
        path = official_file(folder, annotator_name(judge), "annotations.json")
        write_annotations(path, judged.judgments)
        return path

    def by_question(self, judged: Judged) -> list[JudgedQuestion]:
        """The judge's probability that the model's answer is better, and the token it said."""
        return [_judged_question(str(place), row) for place, row in zip(self._places, judged.judgments, strict=True)]

    def _judged(
        self, model: str, outputs: Sequence[str], annotations: list[dict[str, Any]], unjudged: Mapping[int, str]
    ) -> AlpacaEvalJudged:
        scores, notes = win_rates(annotations, Difficulty(self._files.instructions, self._places))
        return AlpacaEvalJudged(
            scores={**scores, "length_chars": mean_length(outputs)},
            judgments=annotations,
            unjudged={str(self._places[n]): reason for n, reason in unjudged.items()},
            model=model,
            notes=tuple(notes),
        )

    def _texts(self, answers: Iterable[Answer], owner: str) -> list[str]:
        """One text per question, in the order of the questions. Raises `UserError` unless there is exactly one."""
        ids = Counter(answer.question_id for answer in answers)
        wanted = [str(place) for place in self._places]
        wrong = {
            "without an answer": [id_ for id_ in wanted if id_ not in ids],
            "answered more than once": [id_ for id_, count in ids.items() if count > 1],
            "that are not asked": sorted(set(ids) - set(wanted)),
        }
        problems = [f"{len(found)} {kind} ({quoted(found)})" for kind, found in wrong.items() if found]
        if problems:
            raise UserError.from_problems(
                f"the answers of {owner} do not match AlpacaEval 2's {len(wanted)} questions; by question id:", problems
            )
        by_id = {answer.question_id: answer.turns[0] for answer in answers}
        return [by_id[id_] for id_ in wanted]


def _judged_question(id_: str, row: Mapping[str, Any]) -> JudgedQuestion:
    preference = None if row["preference"] is None else float(row["preference"]) - 1
    completion = row.get("preference_raw_completion")
    said = completion.get("text", "") if isinstance(completion, Mapping) else str(completion or "")
    shown = "none" if preference is None else f"{preference:.3f}"
    return JudgedQuestion(id_, preference, None, (Verdict("annotation", shown, said),))
