"""Scoring existing official response files of IFEval and IFBench."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aipo_lab.benchmarks.instruction_following.benchmark import IFBench, IFEval
from aipo_lab.benchmarks.instruction_following.checking import Name, check, scores
from aipo_lab.benchmarks.instruction_following.responses import plain, read_responses
from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.core.errors import UserError

BENCHMARKS = {"ifeval": IFEval, "ifbench": IFBench}
MOST_FOREIGN = 0.5
"""Share of prompts that are not the benchmark's, above which the file is taken for another one's."""
SHOWN_CHARS = 80


@dataclass(frozen=True)
class Scored:
    """Scores by metric name, and sentences that a reader of them has to know."""

    scores: dict[str, Estimate]
    notes: tuple[str, ...]


def score_instruction_following(name: Name, responses: Path) -> Scored:
    """Scores of the responses to the benchmark's prompts; prompts without a response are left out and counted.

    A prompt with something before it (a template; rows run together, as one of the official sample's is) counts as the
    question that it ends with. Raises `UserError` for another kind of file, where most prompts are not the
    benchmark's, and without its assets.
    """
    by_prompt = read_responses(responses)
    questions = {plain(one.prompt): one for one in BENCHMARKS[name].load().instructed.values()}
    answers, foreign = _matched(by_prompt, questions)
    if len(foreign) > MOST_FOREIGN * len(by_prompt):
        raise UserError(
            f"{len(foreign)} of {len(by_prompt)} prompts in {responses} are not {name}'s, the first: "
            f"{foreign[0][:SHOWN_CHARS]!r}; give the responses to {name}'s own prompts"
        )
    followed = [check(name, questions[question], response) for question, response in answers.items()]
    missing = len(questions) - len(answers)
    notes = [f"{missing} of {len(questions)} prompts have no response and are left out"] if missing else []
    if foreign:
        notes.append(
            f"{len(foreign)} prompts are not {name}'s and are left out, the first: {foreign[0][:SHOWN_CHARS]!r}"
        )
    return Scored(scores(followed), tuple(notes))


def _matched(by_prompt: Mapping[str, str], questions: Mapping[str, object]) -> tuple[dict[str, str], list[str]]:
    """The responses by question, in the questions' order, and the prompts that are no question."""
    found, foreign = {}, []
    for prompt, response in by_prompt.items():
        question = prompt if prompt in questions else _ending(prompt, questions)
        if question is None or (question != prompt and question in by_prompt):
            foreign.append(prompt)
        else:
            found[question] = response
    return {question: found[question] for question in questions if question in found}, foreign


def _ending(prompt: str, questions: Iterable[str]) -> str | None:
    """The longest question that `prompt` ends with."""
    return max((question for question in questions if prompt.endswith(question)), key=len, default=None)
