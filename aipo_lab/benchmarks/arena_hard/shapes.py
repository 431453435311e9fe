"""The rows of Arena-Hard's official files in both versions, and what aipo-lab takes from them.

Keys that are not named here (time stamps, clusters, counts of markdown) are allowed and ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from aipo_lab.benchmarks.arena_hard.verdicts import V01, V2, Game, Rules, judged_game
from aipo_lab.benchmarks.official import Question

CATEGORY_V01 = "arena-hard-v0.1"
BASELINE_V01 = "gpt-4-0314"
TEMPERATURE = 0.0
"""Official answers are greedy; they have at most 4096 tokens less the prompt's and 300 (gen_answer.py)."""


@dataclass(frozen=True)
class Judgment:
    """Both games of one question of one model: game 1 has A = baseline, B = model; game 2 the other way round."""

    question_id: str
    model: str
    judge: str
    baseline: str
    category: str
    games: tuple[Game, Game]


@dataclass(frozen=True)
class FileAnswer:
    """One answer; `tokens`: its length as the file states it, if in cl100k_base tokens."""

    question_id: str
    model: str
    text: str
    tokens: int | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class JudgmentRow(_Part):
    """A row of a judgment file."""

    def judgment(self) -> Judgment:
        """What is taken from the row."""
        raise NotImplementedError


class AnswerRow(_Part):
    """A row of an answer file."""

    def answer(self) -> FileAnswer:
        """What is taken from the row."""
        raise NotImplementedError


class QuestionRow(_Part):
    """A row of a question file."""

    def question(self) -> Question:
        """What is taken from the row."""
        raise NotImplementedError


class _GameV01(_Part):
    judgment: str = ""
    score: str | None = None

    def text(self) -> str:
        return self.judgment


class _Reply(_Part):
    answer: str


class _GameV2(_Part):
    judgment: _Reply | None = None
    score: str | None = None

    def text(self) -> str:
        return self.judgment.answer if self.judgment else ""


def _game(games: Sequence[_GameV01 | _GameV2 | None], number: int, rules: Rules) -> Game:
    """Game 1 or 2. The stored score counts; only without that key, the verdict in the text by the version's rules."""
    game = games[number - 1] if number <= len(games) else None
    if game is None:
        return Game("", None, "not in the file")
    label = game.score if "score" in game.model_fields_set else rules.read_verdict(game.text())
    return judged_game(game.text(), label, rules)


class _JudgmentV01(JudgmentRow):
    question_id: str
    model: str
    judge: str
    games: list[_GameV01 | None] = Field(max_length=2)

    def judgment(self) -> Judgment:
        games = _game(self.games, 1, V01), _game(self.games, 2, V01)
        return Judgment(self.question_id, self.model, self.judge, BASELINE_V01, CATEGORY_V01, games)


class _JudgmentV2(JudgmentRow):
    uid: str
    model: str
    judge: str
    baseline: str
    category: str
    games: list[_GameV2 | None] = Field(max_length=2)

    def judgment(self) -> Judgment:
        games = _game(self.games, 1, V2), _game(self.games, 2, V2)
        return Judgment(self.uid, self.model, self.judge, self.baseline, self.category, games)


class _Turn(_Part):
    content: str
    token_len: int | None = None


class _Choice(_Part):
    turns: list[_Turn] = Field(min_length=1, max_length=1)


class _Metadata(_Part):
    token_len: int | None = None


class _AnswerV01(AnswerRow):
    question_id: str
    model_id: str
    choices: list[_Choice] = Field(min_length=1)
    conv_metadata: _Metadata = _Metadata()

    def answer(self) -> FileAnswer:
        turn = self.choices[0].turns[0]
        tokens = turn.token_len if turn.token_len is not None else self.conv_metadata.token_len
        return FileAnswer(self.question_id, self.model_id, turn.content, tokens)


class _MessageV2(_Part):
    content: _Reply | str


class _AnswerV2(AnswerRow):
    uid: str
    model: str
    messages: list[_MessageV2] = Field(min_length=1)

    def answer(self) -> FileAnswer:
        content = self.messages[-1].content
        text = content if isinstance(content, str) else content.answer
        return FileAnswer(self.uid, self.model, text, tokens=None)  # v2 counts in gpt-4o's tokens


class _QuestionV01(QuestionRow):
    question_id: str
    category: str
    turns: list[_Turn] = Field(min_length=1, max_length=1)

    def question(self) -> Question:
        return Question(self.question_id, (self.turns[0].content,), self.category, TEMPERATURE)


class _QuestionV2(QuestionRow):
    uid: str
    category: str
    prompt: str

    def question(self) -> Question:
        return Question(self.uid, (self.prompt,), self.category, TEMPERATURE)


JUDGMENT_ROWS: dict[str, type[JudgmentRow]] = {V01.version: _JudgmentV01, V2.version: _JudgmentV2}
ANSWER_ROWS: dict[str, type[AnswerRow]] = {V01.version: _AnswerV01, V2.version: _AnswerV2}
QUESTION_ROWS: dict[str, type[QuestionRow]] = {V01.version: _QuestionV01, V2.version: _QuestionV2}
