"""The benchmark `held_out`: prompts kept back from a recipe's own data, and how long and how alike the answers are.

No world, no judge and no network, so that every recipe has an outcome: length is one (paper, section 4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.catalogue import BENCHMARKS, OfficialEntry
from aipo_lab.benchmarks.length_control import mean_estimate
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.benchmarks.official import Answer, Judged, OfficialBenchmarkSettings, Question
from aipo_lab.benchmarks.plain import ANSWER_FILE, PlainBenchmark
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import iterate_jsonl
from aipo_lab.core.progress import Progress

MOST_PROMPTS = 100_000


class HeldOutSettings(OfficialBenchmarkSettings):
    """How many prompts are kept back, and how they are answered."""

    limit: int = Field(50, ge=2, le=MOST_PROMPTS, description="prompts kept back from the data and answered")
    temperature: float = Field(0.7, ge=0, le=10, description="of answers")
    max_new_tokens: int = Field(512, ge=1, description="cap on an answer's length in tokens, end token included")


class HeldOut(PlainBenchmark):
    """Answers to prompts that were kept back."""

    @classmethod
    def load(cls, limit: int | None) -> HeldOut:
        """Raises `UserError`: outside a recipe there is nothing to ask."""
        raise UserError(
            f"benchmark held_out asks {limit or 'some'} prompts of a recipe's own data, so it is only there in a "
            "recipe (benchmarks.held_out)"
        )

    @classmethod
    def of(cls, path: Path) -> HeldOut:
        """The questions of a `held_out.jsonl` (`id`, `prompt`)."""
        return cls([Question(row["id"], (row["prompt"],)) for row in iterate_jsonl(path)])

    def judge(
        self,
        model: str,  # noqa: ARG002
        answers: Sequence[Answer],
        baseline: Sequence[Answer] | None,  # noqa: ARG002
        judge: Any,  # noqa: ARG002
        progress: Progress,
    ) -> Judged:
        """See `OfficialBenchmark.judge`; `distinct` is the share of answers that no other answer repeats."""
        texts = [answer.turns[0] for answer in answers]
        times = Counter(texts)
        rows: list[dict[str, Any]] = [
            {
                "id": answer.question_id,
                "tokens": answer.tokens,
                "chars": len(text),
                "truncated": answer.truncated,
                "distinct": times[text] == 1,
            }
            for answer, text in zip(answers, texts, strict=True)
        ]
        progress(len(rows), len(rows), "answers")
        scores = {
            "distinct": mean_estimate([row["distinct"] for row in rows], 100),
            "length_tokens": mean_estimate([row["tokens"] for row in rows]),
            "length_chars": mean_estimate([row["chars"] for row in rows]),
            "truncated": mean_estimate([row["truncated"] for row in rows], 100),
        }
        return Judged(scores, rows)


BENCHMARKS.add(
    "held_out",
    OfficialEntry(
        title="Own prompts, held out",
        settings=HeldOutSettings,
        loader="aipo_lab.benchmarks.held_out:HeldOut",
        n_questions=MOST_PROMPTS,
        answer_file=ANSWER_FILE,
        needs_judge=False,
        asks_own_prompts=True,
        metrics=("distinct", "length_tokens", "length_chars", "truncated"),
        headline=BenchmarkMetrics(
            win_rate="held_out/distinct",
            win_rate_label="Answers that no other repeats (%)",
            length="held_out/length_tokens",
            length_label="Mean response length (tokens)",
        ),
    ),
)
