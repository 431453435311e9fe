"""Stage `judge_official`: an official benchmark's scores of a model's answers, by a judge.

Output `scores.json`: metric -> {`value`, `se`, `n`}; `judgments.jsonl`: one row per question (`JudgedQuestion`); the
official judgment file below `official/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.answers import read_answers
from aipo_lab.benchmarks.catalogue import official_entry
from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.benchmarks.official import Judged
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.stages.answer_official import OfficialQuestions
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.judge import write_scores
from aipo_lab.stages.kept_back import load_benchmark


class JudgeOfficialConfig(OfficialQuestions):
    """All that determines the scores besides the answers."""

    judge: dict[str, Any] = Field(
        description="what determines the judge's replies (`JudgeSettings.identity`); empty: none is needed"
    )
    unjudged_share: float = Field(description="largest share of verdicts that may be missing")


@stage("judge_official", version=3, config=JudgeOfficialConfig)
def judge_official(context: StageContext[JudgeOfficialConfig]) -> Mapping[str, Any]:
    """Write the scores; `unjudged` among them is the percentage of verdicts that are missing.

    Raises `StageFailed` when more are missing than `unjudged_share` allows; they are asked for again when the stage
    runs again, but for those that would only be cut off or filtered again, and nothing else is.
    """
    config = context.config
    benchmark = load_benchmark(context)
    judging = context.runtime.judging
    judge = None if judging is None else judging.open(context.runtime.device)
    assert (judge is not None) == official_entry(config.benchmark).needs_judge
    judge_name = "none" if judge is None else judge.name
    answers = context.inputs["answers"]
    baseline = context.inputs.get("baseline")
    judged = benchmark.judge(
        answers.summary["model"],
        read_answers(answers.path),
        None if baseline is None else read_answers(baseline.path),
        judge,
        context.progress,
    )
    n_verdicts = len(benchmark.questions) * official_entry(config.benchmark).verdicts_per_question
    _require_verdicts(judged, n_verdicts, config)
    unjudged = Estimate(100 * len(judged.unjudged) / n_verdicts, None, n_verdicts)
    write_scores(context.folder, config.benchmark, {**judged.scores, "unjudged": unjudged})
    write_jsonl(context.folder / "judgments.jsonl", map(asdict, benchmark.by_question(judged)))
    benchmark.write_judgments(context.folder / "official", answers.summary["model"], judge_name, judged)
    return {
        "answers": len(benchmark.questions),
        "judge": judge_name,
        "unjudged": dict(judged.unjudged),
        "notes": list(judged.notes),
    }


def _require_verdicts(judged: Judged, n_verdicts: int, config: JudgeOfficialConfig) -> None:
    n_missing = len(judged.unjudged)
    if n_missing <= config.unjudged_share * n_verdicts and n_missing < n_verdicts:
        return
    where, reason = next(iter(judged.unjudged.items()))
    if n_missing == n_verdicts:
        raise StageFailed(
            f"not one of {n_verdicts} verdicts of {config.benchmark} was given, so there is no score; the first: "
            f"{where} ({reason}). The next run asks for those again that could turn out otherwise; if the judge "
            "never gives one, try another judge"
        )
    raise StageFailed(
        f"{n_missing} of {n_verdicts} verdicts of {config.benchmark} are missing, and benchmarks.unjudged_share = "
        f"{config.unjudged_share:g} allows less; the first: {where} ({reason}). The next run asks again for what is "
        "missing, unless it would only repeat; if the judge never gives it, raise benchmarks.unjudged_share or try "
        "another judge"
    )
