"""The ranker itself: asks for judgments of all candidates, and for judgments of judgments where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.progress import Progress
from aipo_lab.ranking.llm_judge.asking import Asked, JudgeAsked, PolicyAsked
from aipo_lab.ranking.llm_judge.judgments import NO_READING, ask_all
from aipo_lab.ranking.llm_judge.meta import Contest, judge_pair, most_disputed, place_wins, record_of
from aipo_lab.ranking.llm_judge.reading import read_verdict
from aipo_lab.ranking.llm_judge.scoring import (
    JudgedRow,
    additive_scores,
    judge_rows,
    order_disagreement,
    win_rates,
)
from aipo_lab.ranking.llm_judge.settings import LLMJudgeSettings, resources
from aipo_lab.ranking.llm_judge.templates import shipped
from aipo_lab.ranking.ranker import RANKERS, Conclusion, RankerContext, RankerDefinition

HOPELESS = 64
"""Judgments of one call without a single reading after which a judge is taken to give none."""


class LLMJudge:
    """Scores by what a model says; it is opened with the first question."""

    def __init__(self, settings: LLMJudgeSettings, context: RankerContext) -> None:
        self._settings, self._context = settings, context
        self._asked: Asked | None = None
        self._records: dict[str, dict[str, Any]] = {}

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float | None]]:
        """See `Ranker.scores`."""
        phases = 1 if self._settings.meta is None else 2
        asking = _share(progress, len(rows), 0, phases)
        judged = judge_rows(rows, self.asked, self._settings, asking) if rows else []
        self._records = {one.row["id"]: one.record() for one in judged}
        self._check_readings([one for record in self._records.values() for one in record["judged"]], HOPELESS)
        if self._settings.meta is not None:
            self._judge_judgments(judged, _share(progress, len(rows), 1, phases))
        score = win_rates if self._settings.mode == "pairwise" else additive_scores
        return iter([score(one) for one in judged])

    @property
    def asked(self) -> Asked:
        """Who judges."""
        if self._asked is None:
            context = self._context
            if self._settings.judge is None:
                assert context.policy is not None, "a ranker that asks the policy is given it"
                self._asked = PolicyAsked(context.policy(), self._settings, context.seed)
            else:
                assert context.judge is not None, "a ranker that asks a judge is given it"
                self._asked = JudgeAsked(context.judge(), self._settings)
        return self._asked

    def record(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `RecordingRanker.record`."""
        return self._records[row["id"]]

    def conclude(self, records: Sequence[Mapping[str, Any]]) -> Conclusion:
        """See `RecordingRanker.conclude`; raises `StageFailed` where not one judgment could be read."""
        judged = [one for record in records for one in record["judged"]]
        self._check_readings(judged, 1)
        judgments = [one for question in judged for one in question["judgments"]]
        summary: dict[str, Any] = {
            "judge": self._judge_name(),
            "judgments": len(judgments),
            "unparsable": sum(one.get("problem") == NO_READING for one in judgments),
            "unanswered": sum(one.get("problem") not in (None, NO_READING) for one in judgments),
            "questions_cut": sum(question["cut"] for question in judged),
        }
        disagreement = order_disagreement(records) if self._settings.mode == "pairwise" else None
        if disagreement is not None:
            summary["order_disagreement"] = disagreement
        return self._with_meta(summary, records)

    def _judge_judgments(self, judged: Sequence[JudgedRow], progress: Progress) -> None:
        """Let the most disputed judgments of every row meet."""
        assert self._settings.meta is not None
        template = self._settings.meta.template or shipped("meta")
        contests = [(one, contest) for one in judged if (contest := _contest(one)) is not None]
        questions = [
            self.asked.question(
                template,
                {
                    "prompt": one.row["prompt"],
                    "response": one.row["responses"][contest.candidate]["text"],
                    "judgment_a": contest.replies[first].text,
                    "judgment_b": contest.replies[second].text,
                },
            )
            for one, contest in contests
            for first, second in contest.battles()
        ]
        read = partial(read_verdict, pattern=self._settings.meta.verdict_pattern)
        made, _ = ask_all(self.asked, questions, 1, read, progress)
        verdicts = iter(made)
        for one, contest in contests:
            values = [next(verdicts)[0]["value"] for _ in contest.battles()]
            self._records[one.row["id"]]["meta"] = record_of(contest, values)

    def _with_meta(self, summary: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> Conclusion:
        """The pairs of judgments, with what is to be said of them."""
        if self._settings.meta is None:
            return Conclusion(summary)
        contests = {record["id"]: record["meta"] for record in records if "meta" in record}
        wins = place_wins(list(contests.values()))
        most = self._settings.meta.max_chosen_tokens
        pairs = [pair for id_, one in contests.items() if (pair := judge_pair(id_, one, wins.weights())) is not None]
        kept = [pair for pair in pairs if most is None or pair.get("chosen_tokens", 0) <= most]
        battles = [battle for one in contests.values() for battle in one["battles"]]
        summary |= {
            "meta_battles": len(battles),
            "meta_unparsable": sum(verdict is None for *_, verdict in battles),
            "meta_first_wins": wins.first,
            "meta_second_wins": wins.second,
            "judge_pairs": len(kept),
            "judge_pairs_too_long": len(pairs) - len(kept),
        }
        return Conclusion(summary, kept)

    def _check_readings(self, judged: Sequence[Mapping[str, Any]], least: int) -> None:
        """Raise `StageFailed` if `least` judgments or more, and all of them, could not be read."""
        judgments = [one for question in judged for one in question["judgments"]]
        if len(judgments) < least or any(one["value"] is not None for one in judgments):
            return
        first = judgments[0]
        said = f"the first reply: {first['text'][:300]!r}" if first["problem"] == NO_READING else first["problem"]
        pattern = "score_pattern" if self._settings.mode == "additive" else "verdict_pattern"
        raise StageFailed(
            f"{self._judge_name()} gave no {'score' if self._settings.mode == 'additive' else 'verdict'} in "
            f"{len(judgments)} judgments; {said}. Ask a model that can judge, change rank.template or "
            f"rank.{pattern}, or raise rank.max_new_tokens"
        )

    def _judge_name(self) -> str:
        return "the policy" if self._settings.judge is None else f"the judge {self._settings.judge.model}"


def _share(progress: Progress, n_rows: int, phase: int, phases: int) -> Progress:
    """The progress of questions in one of several phases as that of rows."""

    def tell(done: int, total: int, _: str) -> None:
        progress(n_rows * (phase * total + done) // max(1, phases * total), n_rows, "prompts")

    return tell


def _contest(judged: JudgedRow) -> Contest | None:
    """The contest about the row's most disputed response."""
    candidates = [judged.places.index(number) for number in range(len(judged.texts))]
    asked = {
        candidate: number for number, candidate in enumerate(candidates) if judged.questions[number].text is not None
    }
    return most_disputed(
        {candidate: judged.questions[number].text or "" for candidate, number in asked.items()},
        {candidate: judged.replies[number] for candidate, number in asked.items()},
        {candidate: [one["value"] for one in judged.judgments[number]] for candidate, number in asked.items()},
    )


RANKERS.add("llm_judge", RankerDefinition(settings=LLMJudgeSettings, open=LLMJudge, resources=resources))
