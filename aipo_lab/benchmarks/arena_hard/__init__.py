"""Arena-Hard v0.1: 500 questions; a judge compares each answer with the baseline's, twice, with sides swapped."""

from aipo_lab.benchmarks.arena_hard.benchmark import ArenaHard
from aipo_lab.benchmarks.arena_hard.formats import (
    ModelAnswers,
    read_answers,
    read_judgments,
    read_questions,
    write_answers,
    write_judgments,
    write_questions,
)
from aipo_lab.benchmarks.arena_hard.scoring import FileScores, score_arena_hard

__all__ = [
    "ArenaHard",
    "FileScores",
    "ModelAnswers",
    "read_answers",
    "read_judgments",
    "read_questions",
    "score_arena_hard",
    "write_answers",
    "write_judgments",
    "write_questions",
]
