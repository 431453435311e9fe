"""Official MT-Bench judgment files (`<judge>_single.jsonl`): their rows, and the scores of existing ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.benchmarks.mt_bench.answers import NO_TIME
from aipo_lab.benchmarks.mt_bench.files import OfficialRow, read_rows
from aipo_lab.benchmarks.mt_bench.prompts import GradingCall
from aipo_lab.benchmarks.mt_bench.questions import FIRST_ID, LAST_ID, TURNS, turn_label
from aipo_lab.benchmarks.mt_bench.rating import LARGEST_RATING, NO_RATING, Unrated, rating_notes, rating_of
from aipo_lab.benchmarks.mt_bench.scores import mt_bench_scores
from aipo_lab.core.config import suggest
from aipo_lab.core.errors import UserError

FAILED_CALL = "$ERROR$"
"""The text FastChat records as the judgment when the judge could not be reached."""


def _check_score(score: float) -> float:
    if score != NO_RATING and not 0 <= score <= LARGEST_RATING:
        raise ValueError(f"{score:g} is neither a rating nor {NO_RATING} (no rating)")
    return score


class JudgmentRow(OfficialRow):
    """What is used of a row of `model_judgment/<judge>_single.jsonl`; `judge` is (judge model, prompt name)."""

    question_id: Annotated[int, Field(ge=FIRST_ID, le=LAST_ID)]
    model: str
    judge: tuple[str, str]
    score: Annotated[float, AfterValidator(_check_score)]
    turn: Annotated[int, Field(ge=1, le=2)]
    judgment: str | None = None


@dataclass(frozen=True)
class FileScores:
    """The scores of one model in a judgment file; `scores` is by metric name, empty if nothing is rated.

    `unjudged`: turns without a rating, with the reason. `duplicates`: rows replaced by a later one of the same turn.
    `contradictions`: rows whose score is not the rating in their own text (the score counts, as officially).
    `outside_scale`: ratings below 1 or above 10, which count as they are. `notes`: see `rating_notes`.
    """

    judge: str
    scores: Mapping[str, Estimate]
    unjudged: Mapping[str, str]
    duplicates: int
    contradictions: int
    outside_scale: int
    notes: tuple[str, ...] = ()


def judgment_row(model: str, judge: str, call: GradingCall, reply: str, score: float) -> dict[str, Any]:
    """One row of the official judgment file."""
    return {
        "question_id": int(call.question_id),
        "model": model,
        "judge": [judge, call.prompt_name],
        "user_prompt": call.user_prompt,
        "judgment": reply,
        "score": score,
        "turn": call.turn,
        "tstamp": NO_TIME,
    }


def score_mt_bench(judgments: Path, model: str | None = None) -> dict[str, FileScores]:
    """The scores of every model in a judgment file, or of `model` alone, by model name.

    Of several rows for one turn the last counts (AIPO's rule; FastChat averages them all), also when that one has no
    rating. Raises `UserError` for files of another kind (pairwise judgments, answers, other benchmarks), for
    malformed rows, for several judge models in one file and for a `model` that is not in it.
    """
    rows = read_rows(judgments, JudgmentRow, "a file of MT-Bench single-answer judgments")
    judges = sorted({row.judge[0] for row in rows})
    if len(judges) > 1:
        raise UserError(
            f"{judgments} mixes the ratings of several judges: {', '.join(judges)}; "
            "their scales differ, so keep one file per judge"
        )
    by_model: dict[str, list[JudgmentRow]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    if model is not None and model not in by_model:
        raise UserError(f"{judgments} has no judgments of the model {model!r}; {suggest(model, sorted(by_model))}")
    wanted = by_model if model is None else {model: by_model[model]}
    return {name: _score(judges[0], wanted[name]) for name in sorted(wanted)}


def _score(judge: str, rows: Sequence[JudgmentRow]) -> FileScores:
    latest = {(row.question_id, row.turn): row for row in rows}
    ratings = {key: row.score for key, row in latest.items() if row.score != NO_RATING}
    every_turn = [(question_id, turn) for question_id in range(FIRST_ID, LAST_ID + 1) for turn in TURNS]
    return FileScores(
        judge=judge,
        scores=mt_bench_scores(ratings),
        unjudged={turn_label(*key): _why_unrated(latest.get(key)) for key in every_turn if key not in ratings},
        duplicates=len(rows) - len(latest),
        contradictions=sum(_contradicts_itself(row) for row in latest.values()),
        outside_scale=sum(not 1 <= rating <= 10 for rating in ratings.values()),
        notes=tuple(rating_notes([row.judgment for row in latest.values() if row.judgment is not None])),
    )


def _why_unrated(row: JudgmentRow | None) -> str:
    if row is None:
        return "not in the file"
    if row.judgment == FAILED_CALL:
        return "the judge could not be reached"
    rating = rating_of(row.judgment or "")
    return rating.reason if isinstance(rating, Unrated) else f"the file says {NO_RATING}"


def _contradicts_itself(row: JudgmentRow) -> bool:
    if row.judgment is None:
        return False
    rating = rating_of(row.judgment)
    return row.score != (NO_RATING if isinstance(rating, Unrated) else rating)
