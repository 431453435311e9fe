"""Stage `judge`: scores of a policy's answers to a benchmark.

Output `scores.json`: metric -> {`value`, `se`, `n`}; `judgments.jsonl`: one row per answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.embedded import EmbeddedJudgeConfig
from aipo_lab.benchmarks.embedded import judge as judge_embedded
from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_json, write_jsonl
from aipo_lab.stages.definition import StageContext, stage


class JudgeConfig(EmbeddedJudgeConfig):
    """All that determines the scores besides the answers."""

    benchmark: str = Field(description="benchmark that scores")


@stage("judge", version=1, config=JudgeConfig)
def judge(context: StageContext[JudgeConfig]) -> Mapping[str, Any]:
    """Write `scores.json` and `judgments.jsonl`."""
    answers = read_jsonl(context.inputs["answers"].file("answers.jsonl"))
    baseline = read_jsonl(context.inputs["baseline"].file("answers.jsonl"))
    scores, judgments = judge_embedded(answers, baseline, context.config)
    write_scores(context.folder, context.config.benchmark, scores)
    write_jsonl(context.folder / "judgments.jsonl", judgments)
    return {"answers": len(answers)}


def write_scores(folder: Path, benchmark: str, scores: Mapping[str, Estimate]) -> None:
    """Write `scores.json`; raises `StageFailed` for a value that is not finite."""
    broken = [name for name, score in scores.items() if not math.isfinite(score.value)]
    if broken:
        raise StageFailed(f"{benchmark} gave no finite value for {', '.join(broken)}")
    write_json(folder / "scores.json", {name: vars(score) for name, score in scores.items()})
