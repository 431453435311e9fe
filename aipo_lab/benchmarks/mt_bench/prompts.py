"""What the judge is asked: official prompt, reference answer and parameters for each turn of each question.

The texts come from the asset `mt-bench` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aipo_lab.benchmarks.mt_bench.answers import read_answers
from aipo_lab.benchmarks.official import Answer, Question
from aipo_lab.benchmarks.official_rows import OfficialFile
from aipo_lab.judging.calls import JudgeRequest, Message

REFERENCE_CATEGORIES = frozenset({"math", "reasoning", "coding"})
"""Categories in which the judge is shown a reference answer."""

REFERENCE_MODELS = ("gpt-4", "gpt-4-1106-preview")
"""Judges with reference answers of their own; the first one's serve all others."""

JUDGE_TEMPERATURE = 0.0
JUDGE_MAX_TOKENS = 2048
"""Official for OpenAI judges, used for every judge here (FastChat gives Anthropic's models 1024)."""


def reference_model(judge_name: str) -> str:
    """Whose reference answers a judge is shown: its own if there are any, else gpt-4's, the first official ones.

    The judge's name decides, without what precedes its last `/` (`openai/gpt-4-1106-preview`). FastChat refuses a
    judge without references of its own; scores of other judges are comparable only with each other.
    """
    name = judge_name.rpartition("/")[2]
    return name if name in REFERENCE_MODELS else REFERENCE_MODELS[0]


def prompt_name(category: str, turn: int) -> str:
    """The name of the official prompt for a turn (1 or 2) of a question."""
    kind = "math-v1" if category in REFERENCE_CATEGORIES else "v1"
    return f"single-{kind}" + ("-multi-turn" if turn == 2 else "")


@dataclass(frozen=True)
class GradingCall:
    """One turn of one question to be graded."""

    question_id: str
    turn: int
    prompt_name: str
    request: JudgeRequest

    @property
    def user_prompt(self) -> str:
        """The judge's prompt without the system message, as judgment files hold it."""
        return self.request.messages[-1].content


@dataclass(frozen=True)
class Grading:
    """The official judge prompts (name → system message and user template) and reference answers.

    `references` are by reference model and question id.
    """

    templates: Mapping[str, tuple[str, str]]
    references: Mapping[str, Mapping[str, Answer]]

    @classmethod
    def load(cls, folder: Path) -> Grading:
        """Read them from the asset's folder."""
        prompts = OfficialFile.read(folder / "judge_prompts.jsonl", "a file of MT-Bench's judge prompts").rows
        return cls(
            {row["name"]: (row["system_prompt"], row["prompt_template"]) for _, row in prompts},
            {
                model: {
                    answer.question_id: answer
                    for answer in read_answers(folder / "reference_answer" / f"{model}.jsonl")[1]
                }
                for model in REFERENCE_MODELS
            },
        )

    def call(self, question: Question, answer: Answer, turn: int, references: str) -> GradingCall:
        """The call that grades `turn` (1 or 2) of an answer, with the references of the model `references`."""
        name = prompt_name(question.category, turn)
        system, template = self.templates[name]
        fields = _fields(question, answer, turn)
        if question.category in REFERENCE_CATEGORIES:
            reference = self.references[references][question.id]
            fields |= {"ref_answer_1": reference.turns[0], "ref_answer_2": reference.turns[1]}
        messages = (Message("system", system), Message("user", template.format(**fields)))
        return GradingCall(question.id, turn, name, JudgeRequest(messages, JUDGE_MAX_TOKENS, JUDGE_TEMPERATURE))


def _fields(question: Question, answer: Answer, turn: int) -> dict[str, str]:
    """The placeholders' values: the first turn's prompt shows that turn, the second's the whole conversation."""
    if turn == 1:
        return {"question": question.turns[0], "answer": answer.turns[0]}
    return {
        "question_1": question.turns[0],
        "answer_1": answer.turns[0],
        "question_2": question.turns[1],
        "answer_2": answer.turns[1],
    }
