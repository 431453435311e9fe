"""Stage `given_answers`: a model's answers to an official benchmark from an official answer file.

Output as of `answer_official`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.answers import Turn, read_answers, write_turns
from aipo_lab.benchmarks.catalogue import load_official
from aipo_lab.stages.answer_official import OfficialQuestions
from aipo_lab.stages.definition import StageContext, stage


class GivenAnswersConfig(OfficialQuestions):
    """All that determines the answers."""

    sha256: str = Field(description="hash of the answer file")


@stage("given_answers", version=2, config=GivenAnswersConfig)
def given_answers(context: StageContext[GivenAnswersConfig]) -> Mapping[str, Any]:
    """Write the answers to the benchmark's questions."""
    assert context.runtime.answer_file is not None
    benchmark = load_official(context.config.benchmark, context.config.limit)
    model, answers = benchmark.read_answers(Path(context.runtime.answer_file))
    by_id = {answer.question_id: [Turn(text) for text in answer.turns] for answer in answers}
    write_turns(context.folder, benchmark.questions, [by_id[question.id] for question in benchmark.questions])
    benchmark.write_answers(context.folder / "official", model, read_answers(context.folder))
    return {"model": model, "answers": len(answers), "read_from": context.runtime.answer_file}
