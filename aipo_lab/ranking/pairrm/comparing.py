"""Who is compared with whom, and what scores follow: all pairs, or a tournament for the best and the worst.

Everything is done for many prompts at once, so that comparisons of all of them can share batches. Candidates come in
the order of their tokens and each text once, so scores depend neither on the order of candidates nor on copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Match = tuple[int, int, int]
"""Row, candidate in the first place, candidate in the second (numbers of distinct candidates of the row)."""
Compare = Callable[[Sequence[Match]], Sequence[float]]
"""The logit of each match: above 0 if the candidate in the first place is better."""


@dataclass
class Bracket:
    """One row of a tournament: `better` holds those who may still be the best, `worse` those who may be the worst."""

    better: list[int]
    worse: list[int] = field(default_factory=list)


def all_matches(counts: Sequence[int]) -> list[Match]:
    """Every ordered pair of the distinct candidates of every row."""
    return [(row, i, j) for row, n in enumerate(counts) for i in range(n) for j in range(n) if i != j]


def full_scores(copies: Sequence[Sequence[int]], compare: Compare) -> list[list[float]]:
    """s_i = (1/n) sum_j (M_ij - M_ji) of every distinct candidate; `copies`: how often each occurs, by row.

    Copies of one text count as often as they occur; among themselves they draw.
    """
    scores = [[0.0] * len(row) for row in copies]
    matches = all_matches([len(row) for row in copies])
    for (row, i, j), logit in zip(matches, compare(matches), strict=True):
        n = sum(copies[row])
        scores[row][i] += copies[row][j] * logit / n
        scores[row][j] -= copies[row][i] * logit / n
    return scores


def best_worst_scores(copies: Sequence[Sequence[int]], compare: Compare) -> list[list[float]]:
    """1 for the best, -1 for the worst and 0 for the others; all 0 where there is only one distinct candidate.

    First all candidates meet in pairs; then the winners, and apart from them the losers, until one is left of each:
    about 1.5 n pairings instead of n(n-1)/2. A pairing is played in both orders; a draw is won by the earlier. One that
    is both best and worst (who beats whom goes in a circle) leaves its row undecided: all 0.
    """
    brackets = [Bracket(list(range(len(row)))) for row in copies]
    _first_round(brackets, compare)
    while any(len(one.better) > 1 or len(one.worse) > 1 for one in brackets):
        _knock_out(brackets, compare)
    return [_marks(one, len(row)) for one, row in zip(brackets, copies, strict=True)]


def _marks(bracket: Bracket, n: int) -> list[float]:
    scores = [0.0] * n
    best, worst = bracket.better[0], bracket.worse[0]
    if best != worst:
        scores[best], scores[worst] = 1.0, -1.0
    return scores


def _first_round(brackets: Sequence[Bracket], compare: Compare) -> None:
    """Winners go one way, losers the other, and one without an opponent both."""
    pairs = [(row, *pair) for row, one in enumerate(brackets) for pair in _paired(one.better)]
    for one in brackets:
        single = one.better[-1:] if len(one.better) % 2 else []
        one.better, one.worse = list(single), list(single)
    for (row, i, j), winner in zip(pairs, _winners(pairs, compare), strict=True):
        brackets[row].better.append(winner)
        brackets[row].worse.append(i + j - winner)


def _knock_out(brackets: Sequence[Bracket], compare: Compare) -> None:
    """One round on both sides of every bracket: of the better the winners stay, of the worse the losers."""
    sides = [(row, side, side is one.better) for row, one in enumerate(brackets) for side in (one.better, one.worse)]
    played = [(side, keeps_winner, (row, i, j)) for row, side, keeps_winner in sides for i, j in _paired(side)]
    stay: dict[int, list[int]] = {id(side): side[-1:] if len(side) % 2 else [] for _, side, _ in sides}
    winners = _winners([match for _, _, match in played], compare)
    for (side, keeps_winner, (_, i, j)), winner in zip(played, winners, strict=True):
        stay[id(side)].append(winner if keeps_winner else i + j - winner)
    for _, side, _ in sides:
        side[:] = stay[id(side)]


def _paired(players: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(players[::2], players[1::2], strict=False))


def _winners(pairs: Sequence[Match], compare: Compare) -> list[int]:
    """The better candidate of each pairing, by both orders."""
    logits = compare([match for row, i, j in pairs for match in ((row, i, j), (row, j, i))])
    margins = [logits[k] - logits[k + 1] for k in range(0, len(logits), 2)]
    return [i if margin >= 0 else j for (_, i, j), margin in zip(pairs, margins, strict=True)]
