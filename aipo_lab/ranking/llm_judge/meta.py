"""The judge of judgments: several judgments of one response compared two by two, and pairs of them to train on.

Meta-Rewarding (arXiv 2407.19594, section 2.2): of each prompt the response is taken on whose score the judgments differ
most; every two of its judgments meet in both orders; a win counts the more, the rarer its place (first or second) wins
among all battles of the iteration; ratings are the Bradley-Terry model's, by maximum likelihood; the best judgment is
set against the worst. Judgments that say the same are one here, and a few drawn games keep ratings finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from statistics import pvariance
from typing import Any, NamedTuple

from aipo_lab.models.chat import user_message
from aipo_lab.objectives import mean_win_rates
from aipo_lab.ranking.llm_judge.asking import Reply
from aipo_lab.ranking.llm_judge.reading import FIRST, SECOND

PRIOR_GAMES = 0.1
"""Drawn games of every two judgments besides those they played."""
MAX_SWEEPS = 1000
Record = Mapping[str, Any]


class Contest(NamedTuple):
    """The judgments of one response that are to meet: their replies and scores, and the question they reply to."""

    candidate: int
    question: str
    replies: list[Reply]
    scores: list[float]

    def battles(self) -> list[tuple[int, int]]:
        """Every two judgments in both orders: (first, second)."""
        return list(permutations(range(len(self.replies)), 2))


def most_disputed(
    questions: Mapping[int, str], replies: Mapping[int, Sequence[Reply]], scores: Mapping[int, Sequence[float | None]]
) -> Contest | None:
    """The contest about the candidate whose scores vary most; None where no two judgments of one differ.

    All by the candidate's number; the first of several that vary equally.
    """
    found: list[tuple[float, Contest]] = []
    for candidate, question in questions.items():
        distinct: dict[str, tuple[Reply, float]] = {}
        for reply, score in zip(replies[candidate], scores[candidate], strict=True):
            if score is not None:
                distinct.setdefault(reply.text.strip(), (reply, score))
        spread = pvariance([one for one in scores[candidate] if one is not None] or [0.0])
        if len(distinct) > 1 and spread > 0:
            several = list(distinct.values())
            contest = Contest(candidate, question, [reply for reply, _ in several], [score for _, score in several])
            found.append((spread, contest))
    return max(found, key=lambda one: one[0])[1] if found else None


def record_of(contest: Contest, verdicts: Sequence[float | None]) -> dict[str, Any]:
    """What is kept of a contest: its judgments, and of every battle who stood first, who second, and the verdict."""
    return {
        "candidate": contest.candidate,
        "question": contest.question,
        "prompt_token_ids": contest.replies[0].prompt_token_ids,
        "judgments": [
            {
                "text": reply.text,
                "score": score,
                "token_ids": reply.token_ids,
                "finish_reason": reply.finish_reason,
            }
            for reply, score in zip(contest.replies, contest.scores, strict=True)
        ],
        "battles": [[*pair, verdict] for pair, verdict in zip(contest.battles(), verdicts, strict=True)],
    }


class PlaceWins(NamedTuple):
    """How often the judgment that stood first, and the one that stood second, won."""

    first: int
    second: int

    def weights(self) -> tuple[float, float]:
        """What a win in the first place, and one in the second, counts: the share of wins of the other place."""
        total = self.first + self.second
        return (self.second / total, self.first / total) if self.first and self.second else (0.5, 0.5)


def place_wins(records: Sequence[Record]) -> PlaceWins:
    """Wins by place over the contests of an iteration."""
    verdicts = [verdict for record in records for *_, verdict in record["battles"]]
    return PlaceWins(verdicts.count(FIRST), verdicts.count(SECOND))


def battle_matrix(record: Record, weights: tuple[float, float]) -> list[list[float]]:
    """How much each judgment (row) won against each other one (column); a tie is half a win of both."""
    n = len(record["judgments"])
    won = [[0.0] * n for _ in range(n)]
    for first, second, verdict in record["battles"]:
        if verdict is not None:
            won[first][second] += verdict * weights[0]
            won[second][first] += (1 - verdict) * weights[1]
    return won


def ratings(won: Sequence[Sequence[float]]) -> list[float]:
    """Bradley-Terry ratings on the logit scale, with mean 0, by minorisation-maximisation (Hunter 2004).

    `won[i][j]`: how much i won against j. Raises no error for those who won, or lost, everything: see `PRIOR_GAMES`.
    """
    n = len(won)
    games = [[won[i][j] + won[j][i] + PRIOR_GAMES * (i != j) for j in range(n)] for i in range(n)]
    wins = [sum(won[i]) + PRIOR_GAMES * (n - 1) / 2 for i in range(n)]
    strengths = [1.0] * n
    for _ in range(MAX_SWEEPS):
        new = [wins[i] / sum(games[i][j] / (strengths[i] + strengths[j]) for j in range(n) if j != i) for i in range(n)]
        mean_log = sum(map(math.log, new)) / n
        new = [one / math.exp(mean_log) for one in new]
        moved = max(abs(math.log(after / before)) for after, before in zip(new, strengths, strict=True))
        strengths = new
        if moved < 1e-10:
            break
    return [math.log(one) for one in strengths]


def judge_pair(row_id: str, record: Record, weights: tuple[float, float]) -> dict[str, Any] | None:
    """The best judgment against the worst as a row of `pairs.jsonl`; None where all are rated alike.

    Scores are ratings; the id is the prompt's with `/judge`.
    """
    rated = [round(one, 9) for one in ratings(battle_matrix(record, weights))]
    rates = mean_win_rates(rated)
    best, worst = rated.index(max(rated)), rated.index(min(rated))
    if rated[best] == rated[worst]:
        return None
    made: dict[str, Any] = {"id": f"{row_id}/judge", "prompt": user_message(record["question"])}
    if record["prompt_token_ids"] is not None:
        made["prompt_token_ids"] = record["prompt_token_ids"]
    for role, index in (("chosen", best), ("rejected", worst)):
        judgment = record["judgments"][index]
        made[role] = [{"role": "assistant", "content": judgment["text"]}]
        made[f"{role}_score"], made[f"{role}_win_rate"] = rated[index], rates[index]
        if judgment["token_ids"] is not None:
            made[f"{role}_tokens"] = len(judgment["token_ids"])
            made[f"{role}_token_ids"] = judgment["token_ids"]
        made[f"{role}_finish_reason"] = judgment["finish_reason"]
    return made
