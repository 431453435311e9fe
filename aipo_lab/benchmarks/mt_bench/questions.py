"""The MT-Bench questions: which there are, in which category, and how answers to them are sampled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from aipo_lab.benchmarks.official import Question
from aipo_lab.benchmarks.official_rows import OfficialFile
from aipo_lab.core.errors import UserError

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""In official order, ten consecutive questions each."""

FIRST_ID, LAST_ID = 81, 160
TURNS = (1, 2)

TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "reasoning": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "extraction": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""Official sampling temperature of answers by category; 0 is greedy."""


def category_of(question_id: int) -> str:
    """The category of an official question, from its number alone: scoring a file needs no other."""
    return CATEGORIES[(question_id - FIRST_ID) // 10]


def turn_label(question_id: int | str, turn: int) -> str:
    """How one turn of one question is named in messages and in `Judged.unjudged`."""
    return f"{question_id}, turn {turn}"


def read_questions(path: Path) -> list[Question]:
    """The questions of an official `question.jsonl`, in its order."""
    return [
        Question(str(row["question_id"]), tuple(row["turns"]), row["category"], TEMPERATURES[row["category"]])
        for _, row in OfficialFile.read(path, "a file of MT-Bench questions").rows
    ]


def spread_over_categories(questions: list[Question], limit: int | None) -> tuple[Question, ...]:
    """At most `limit` questions, in official order, as evenly over the categories as can be.

    The first n in official order would be writing alone. Taken are the first questions of all categories, then
    the second ones, and so on; a smaller limit takes a subset of what a larger one takes. Raises `UserError`
    for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"the limit of MT-Bench questions is {limit}; it must be at least 1 (8 is one per category)")
    seen: Counter[str] = Counter()
    rank_in_category = {}
    for question in questions:
        rank_in_category[question.id] = seen[question.category]
        seen[question.category] += 1
    taken = sorted(questions, key=lambda question: rank_in_category[question.id])[:limit]  # sorted() is stable
    return tuple(question for question in questions if question in taken)
