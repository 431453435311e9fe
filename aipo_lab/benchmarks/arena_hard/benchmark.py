"""Arena-Hard v0.1 as a benchmark: its questions, and judging a model's answers against the baseline's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.assets.arena_hard import ARENA_HARD, BASELINE_ANSWERS, CL100K_BASE, FILES, JUDGE_CONFIG, QUESTIONS
from aipo_lab.assets.library import find
from aipo_lab.benchmarks.arena_hard.formats import (
    ModelAnswers,
    judgment_row,
    read_answers,
    read_questions,
    write_answers,
    write_judgments,
)
from aipo_lab.benchmarks.arena_hard.games import play
from aipo_lab.benchmarks.arena_hard.prompts import JudgePrompts
from aipo_lab.benchmarks.arena_hard.scores import scores, tally
from aipo_lab.benchmarks.arena_hard.shapes import BASELINE_V01, CATEGORY_V01, Judgment
from aipo_lab.benchmarks.arena_hard.tokens import CountTokens, count_tokens, token_lengths
from aipo_lab.benchmarks.arena_hard.verdicts import V01, judged_game
from aipo_lab.benchmarks.official import Answer, Judged, JudgedQuestion, Question, Verdict, file_name, official_file
from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.progress import Progress
from aipo_lab.judging.calls import Judge, JudgeRequest

_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


@dataclass(frozen=True)
class ArenaHard:
    """Arena-Hard v0.1 with its files loaded (an `OfficialBenchmark`).

    `baseline`: the answers of gpt-4-0314. `count_tokens`: what the lengths of other answers are counted with.
    """

    questions: tuple[Question, ...]
    prompts: JudgePrompts
    baseline: ModelAnswers
    count_tokens: CountTokens = count_tokens

    @classmethod
    def load(cls, limit: int | None = None) -> ArenaHard:
        """The benchmark from its assets; `limit` questions are spread evenly over the official order.

        That order goes by topic, two questions each: the first ones would all be about the same few. Raises
        `UserError`, naming the command that obtains them, for missing or altered files, and `MissingDependency`
        without tiktoken, which counts the answers' tokens: all that before any call to a judge is paid for.
        """
        folder = _official_files()
        baseline = read_answers(folder / BASELINE_ANSWERS)[BASELINE_V01]
        return cls(
            _spread(read_questions(folder / QUESTIONS), limit), JudgePrompts.read(folder / JUDGE_CONFIG), baseline
        )

    def judge(
        self, model: str, answers: Sequence[Answer], baseline: Sequence[Answer] | None, judge: Judge, progress: Progress
    ) -> Judged:
        """Two games per question; answers lose the white space around them, as AIPO's do.

        Metrics: `win_rate`, `win_rate_ci_low`, `win_rate_ci_high`, `lc_win_rate` from the games with a verdict (absent
        if there is none), `length_tokens` from all answers. Games without a verdict are in `unjudged` and played again
        in the next run. Official v0.1 rows do not say which baseline it was. Raises `UserError` for missing answers,
        before the judge is asked anything.
        """
        ours = self._answers(f"the answers of {model}", answers)
        theirs = self.baseline if baseline is None else self._answers("the baseline's answers", baseline)
        lengths = [token_lengths(side, self.count_tokens) for side in (ours, theirs)]
        requests = [request for question in self.questions for request in self._requests(question, ours, theirs)]
        games = play(requests, judge, progress)
        prompts = [request.messages[-1].content for request in requests]
        judgments = [
            Judgment(question.id, model, judge.name, BASELINE_V01, CATEGORY_V01, (game_1, game_2))
            for question, game_1, game_2 in zip(self.questions, games[::2], games[1::2], strict=True)
        ]
        counted = tally(judgments, V01)
        return Judged(
            scores=scores(counted, V01, *lengths),
            judgments=[
                judgment_row(judgment, prompts)
                for judgment, *prompts in zip(judgments, prompts[::2], prompts[1::2], strict=True)
            ],
            unjudged=counted.unjudged,
        )

    def baseline_answers(self) -> Sequence[Answer]:
        """gpt-4-0314's answers."""
        return [Answer(question.id, (self.baseline.texts[question.id],)) for question in self.questions]

    def read_answers(self, path: Path) -> tuple[str, list[Answer]]:
        """See `OfficialBenchmark`."""
        models = read_answers(path)
        if len(models) > 1:
            raise UserError(f"{path} mixes answers of several models: {', '.join(models)}; give each a file of its own")
        ((model, found),) = models.items()
        ours = self._answers(f"the answers in {path}", [Answer(id_, (text,)) for id_, text in found.texts.items()])
        return model, [Answer(id_, (text,)) for id_, text in ours.texts.items()]

    def write_answers(self, folder: Path, model: str, answers: Sequence[Answer]) -> Path:
        """Write `model_answer/<model>.jsonl`."""
        ours = self._answers(f"the answers of {model}", answers)
        path = official_file(folder, "model_answer", f"{file_name(model)}.jsonl")
        write_answers(path, model, ModelAnswers(ours.texts, token_lengths(ours, self.count_tokens)))
        return path

    def write_judgments(self, folder: Path, model: str, judge: str, judged: Judged) -> Path:
        """Write `model_judgment/<judge>/<model>.jsonl`."""
        path = official_file(folder, "model_judgment", file_name(judge), f"{file_name(model)}.jsonl")
        write_judgments(path, judged.judgments)
        return path

    def by_question(self, judged: Judged) -> list[JudgedQuestion]:
        """Both games of each question; the preference is the share of battles won, strong verdicts counting thrice."""
        return [_judged_question(row) for row in judged.judgments]

    def _requests(self, question: Question, ours: ModelAnswers, theirs: ModelAnswers) -> list[JudgeRequest]:
        """Game 1: A is the baseline; game 2: A is the model."""
        text, our_text, their_text = question.turns[0], ours.texts[question.id], theirs.texts[question.id]
        return [self.prompts.request(text, their_text, our_text), self.prompts.request(text, our_text, their_text)]

    def _answers(self, what: str, answers: Sequence[Answer]) -> ModelAnswers:
        """The answers to this benchmark's questions; others do not matter."""
        texts = {answer.question_id: answer.turns[0].strip() for answer in answers}
        missing = [question.id for question in self.questions if question.id not in texts]
        if missing:
            raise UserError(
                f"{what} lack {len(missing)} of {len(self.questions)} Arena-Hard questions "
                f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}); answer these and judge again"
            )
        return ModelAnswers({question.id: texts[question.id] for question in self.questions})


def _judged_question(row: Mapping[str, Any]) -> JudgedQuestion:
    game_1, game_2 = (judged_game(game["judgment"], game["score"], V01) for game in row["games"])
    judgment = Judgment(row["question_id"], row["model"], row["judge"], BASELINE_V01, CATEGORY_V01, (game_1, game_2))
    counted = tally([judgment], V01)
    preference = float(counted.points[0] / counted.battles[0]) if counted.question_ids else None
    verdicts = (
        Verdict(f"game {number} (A = {first})", game.label or f"none: {game.failure}", game.text.strip())
        for number, (first, game) in enumerate((("baseline", game_1), ("model", game_2)), start=1)
    )
    return JudgedQuestion(judgment.question_id, preference, None, tuple(verdicts))


def _official_files() -> Path:
    """The folder of the asset `arena-hard`, once all that judging needs is there and as it was pinned."""
    problems = []
    for name in (ARENA_HARD.name, CL100K_BASE.name):
        try:
            find(name)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError.from_problems("Arena-Hard needs data files:", problems)
    folder = find(ARENA_HARD.name)
    altered = [file.name for file in FILES if sha256_of(folder / file.name) != file.sha256]
    if altered:
        raise UserError(
            f"not the official files of Arena-Hard v0.1: {', '.join(altered)} in {folder}; "
            f"obtain them again with: aipo-lab assets fetch {ARENA_HARD.name}"
        )
    count_tokens([])
    return folder


def _spread(questions: Sequence[Question], limit: int | None) -> tuple[Question, ...]:
    """`limit` questions, in their order; a larger limit keeps those of a smaller one, whose calls are paid for."""
    if limit is None:
        return tuple(questions)
    if limit < 1:
        raise UserError(f"the limit of Arena-Hard questions is {limit}; it must be at least 1, or left out for all")
    # Multiples of the golden ratio, modulo 1: however many of the smallest are taken, their indices lie evenly.
    evenly = sorted(range(len(questions)), key=lambda index: index * _GOLDEN_RATIO % 1)
    return tuple(questions[index] for index in sorted(evenly[:limit]))
