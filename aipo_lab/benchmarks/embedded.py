"""The embedded benchmarks `micro` and `constraints`: no network, and true quality is known.

Answers are compared with the base model's answers to the same prompts, once by true quality and once by a
judge with a taste for length, whose win rate is then length-controlled. The judge has no noise of its own, and nothing
of the ranker's: neither its noise nor its settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.catalogue import BENCHMARKS, EmbeddedEntry
from aipo_lab.benchmarks.length_control import Estimate, length_controlled_win_rate, mean_estimate
from aipo_lab.benchmarks.metrics import embedded_metrics
from aipo_lab.core.config import StrictModel
from aipo_lab.generation.engine import SamplingConfig
from aipo_lab.worlds.taste import biased_quality
from aipo_lab.worlds.world import WorldConfig, get_world

JUDGE_LENGTH_BIAS = 0.05
"""The embedded judge's reward per 10 tokens where the recipe has none: in units of quality, of which 1 is perfect."""

EMBEDDED_METRICS = (
    "judged_win_rate",
    "lc_win_rate",
    "length_chars",
    "length_tokens",
    "quality",
    "truncated",
    "win_rate",
)


class EmbeddedBenchmarkSettings(StrictModel):
    """What a recipe says about an embedded benchmark."""

    n_prompts: int = Field(200, ge=2, description="held-out prompts answered")
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(max_new_tokens=128), description="how answers are sampled"
    )
    noise_floor: bool = Field(
        False,
        description="the base model answers a second time with another seed, which shows what differences chance makes",
    )


class EmbeddedJudgeConfig(StrictModel):
    """All that determines an embedded benchmark's scores besides the answers."""

    world: WorldConfig = Field(description="world whose quality is the truth")
    length_bias: float = Field(description="the judge's reward per 10 response tokens")


def judge(
    answers: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]], config: EmbeddedJudgeConfig
) -> tuple[dict[str, Estimate], list[dict[str, Any]]]:
    """Scores by metric name, and one judgment per answer. Rows are those of `answers.jsonl`."""
    world = get_world(config.world.name, config.world.seed)
    judgments = [_judge_one(ours, theirs, world, config) for ours, theirs in zip(answers, baseline, strict=True)]
    return _scores(answers, baseline, judgments), judgments


def _judge_one(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], world: Any, config: EmbeddedJudgeConfig
) -> dict[str, Any]:
    assert ours["id"] == theirs["id"]
    quality, other = (world.quality(row["prompt"], row["text"]) for row in (ours, theirs))
    return {
        "id": ours["id"],
        "quality": quality,
        "baseline_quality": other,
        "preference": _preference(quality, other),
        "judged_preference": _preference(
            biased_quality(quality, ours["tokens"], config.length_bias),
            biased_quality(other, theirs["tokens"], config.length_bias),
        ),
    }


def _preference(ours: float, theirs: float) -> float:
    """1 if ours is better, 0 if worse, 0.5 for a tie up to rounding."""
    return 0.5 if abs(ours - theirs) < 1e-9 else float(ours > theirs)


def _scores(
    answers: Sequence[Mapping[str, Any]],
    baseline: Sequence[Mapping[str, Any]],
    judgments: Sequence[Mapping[str, Any]],
) -> dict[str, Estimate]:
    judged = [row["judged_preference"] for row in judgments]
    lengths = [row["tokens"] for row in answers]
    return {
        "quality": mean_estimate([row["quality"] for row in judgments]),
        "win_rate": mean_estimate([row["preference"] for row in judgments], 100),
        "judged_win_rate": mean_estimate(judged, 100),
        "lc_win_rate": length_controlled_win_rate(judged, lengths, [row["tokens"] for row in baseline]),
        "length_tokens": mean_estimate(lengths),
        "length_chars": mean_estimate([len(row["text"]) for row in answers]),
        "truncated": mean_estimate([row["finish_reason"] == "length" for row in answers], 100),
    }


for _name in ("micro", "constraints"):
    BENCHMARKS.add(
        _name,
        EmbeddedEntry(settings=EmbeddedBenchmarkSettings, metrics=EMBEDDED_METRICS, headline=embedded_metrics(_name)),
    )
