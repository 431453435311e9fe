"""Which candidates of a prompt are set against each other.

A pair is possible if its chosen response has the greater score and both conditions hold (`min_margin`,
`max_length_ratio`); a rule takes from the possible ones. Ties take the candidate that comes first, as in the official
code, so `best_worst` without conditions is the official rule.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.curation.candidates import SCORE_DIGITS, Candidate, Duplicates

Rule = Literal["best_worst", "best_others", "widest", "length_matched", "max_random", "random", "quality_tiers"]
RANDOM_RULES = ("max_random", "random")


class SelectSettings(StrictModel):
    """How pairs are selected from ranked candidates. The defaults are the official rule."""

    rule: Rule = Field(
        "best_worst",
        description="best_worst: i-th best against i-th worst; best_others: best against worst, second worst, …; "
        "widest: the widest margins; length_matched: best against those it beats, nearest length first; max_random: "
        "best against any it beats; random: any against any it beats; quality_tiers: the shortest of the best tier "
        "against the longest of the worst",
    )
    tier: float = Field(
        0.3,
        ge=0,
        le=1,
        description="with quality_tiers: width of both tiers, as a share of the range of a prompt's scores (0: the "
        "best and the worst alone)",
    )
    pairs_per_prompt: int = Field(1, ge=1, le=64, description="most pairs of a prompt")
    min_margin: float = Field(0.0, ge=0, description="least difference of the scores (of the ranker's unit) in a pair")
    length_penalty: float = Field(
        0.0, description="score that every token of a response costs before any comparison; negative: is worth"
    )
    max_length_ratio: float | None = Field(
        None, ge=1, description="longest tokens(longer) / tokens(shorter) in a pair; none: any"
    )
    duplicates: Duplicates = Field(
        "keep",
        description="candidates of one prompt with the same text: keep, or only the first (exact; normalised: "
        "capitals and spaces make no difference)",
    )

    @property
    def is_random(self) -> bool:
        """Whether the rule draws at random, hence needs a seed."""
        return self.rule in RANDOM_RULES


class PairOf(NamedTuple):
    """Chosen and rejected."""

    chosen: Candidate
    rejected: Candidate

    @property
    def margin(self) -> float:
        """Difference of the scores."""
        return self.chosen.score - self.rejected.score

    @property
    def length_ratio(self) -> float:
        """Tokens of the longer over those of the shorter response."""
        shorter, longer = sorted((self.chosen.tokens, self.rejected.tokens))
        return longer / max(1, shorter)


class Selected(NamedTuple):
    """The pairs of a prompt, at least one; or, in a word, why there are none."""

    pairs: list[PairOf]
    reason: str | None = None


def select(candidates: Sequence[Candidate], settings: SelectSettings, seed: int) -> Selected:
    """The pairs of one prompt; `seed` is the prompt's own, for rules that draw at random."""
    beaten = [PairOf(w, l) for w in candidates for l in candidates if w.rank < l.rank]  # noqa: E741
    if not beaten:
        return Selected([], "all_tied")
    wide = [pair for pair in beaten if round(pair.margin - settings.min_margin, SCORE_DIGITS) >= 0]
    if not wide:
        return Selected([], "margin_too_small")
    limit = settings.max_length_ratio
    possible = wide if limit is None else [pair for pair in wide if pair.length_ratio <= limit]
    if not possible:
        return Selected([], "length_ratio")
    if settings.rule == "quality_tiers":
        possible = _of_tiers(possible, beaten, settings.tier)
        if not possible:
            return Selected([], "outside_tiers")
    pairs = RULES[settings.rule](possible, random.Random(seed))
    return Selected(pairs[: settings.pairs_per_prompt])


def _widest(pairs: list[PairOf], _: random.Random) -> list[PairOf]:
    """By margin; where rounding makes margins equal, ranks decide; then the candidates' order."""

    def place(pair: PairOf) -> tuple[float, ...]:
        chosen, rejected = pair
        return (-pair.margin, chosen.rank, -rejected.rank, chosen.index, rejected.index)

    return sorted(pairs, key=place)


def _best_worst(pairs: list[PairOf], draw: random.Random) -> list[PairOf]:
    return _each_once(_widest(pairs, draw))


def _each_once(pairs: list[PairOf]) -> list[PairOf]:
    """The pairs none of whose responses an earlier one has."""
    used: set[int] = set()
    taken = []
    for pair in pairs:
        if used.isdisjoint({pair.chosen.index, pair.rejected.index}):
            used |= {pair.chosen.index, pair.rejected.index}
            taken.append(pair)
    return taken


def _of_best(pairs: list[PairOf]) -> list[PairOf]:
    """The pairs whose chosen response is the best that has any."""
    best = min((pair.chosen for pair in pairs), key=lambda one: (one.rank, one.index))
    return [pair for pair in pairs if pair.chosen is best]


def _best_others(pairs: list[PairOf], draw: random.Random) -> list[PairOf]:
    return _widest(_of_best(pairs), draw)


def _length_matched(pairs: list[PairOf], draw: random.Random) -> list[PairOf]:
    return sorted(_best_others(pairs, draw), key=lambda pair: abs(pair.chosen.tokens - pair.rejected.tokens))


def _max_random(pairs: list[PairOf], draw: random.Random) -> list[PairOf]:
    return _random(_of_best(pairs), draw)


def _of_tiers(pairs: list[PairOf], beaten: Sequence[PairOf], width: float) -> list[PairOf]:
    """The pairs whose chosen score is in the best tier and whose rejected one is in the worst.

    The length control of Meta-Rewarding (arXiv 2407.19594, section 2.1): with S the scores of the prompt's candidates,
    the best tier begins at (1 - width) S_max + width S_min, and the worst ends likewise.
    """
    best = max(pair.chosen.score for pair in beaten)
    worst = min(pair.rejected.score for pair in beaten)
    top, bottom = ((1 - width) * one + width * other for one, other in ((best, worst), (worst, best)))
    return [
        pair
        for pair in pairs
        if round(pair.chosen.score - top, SCORE_DIGITS) >= 0 and round(bottom - pair.rejected.score, SCORE_DIGITS) >= 0
    ]


def _by_length(pairs: list[PairOf], draw: random.Random) -> list[PairOf]:
    """Shortest chosen response first, then longest rejected one; each response once."""
    ordered = sorted(_widest(pairs, draw), key=lambda pair: (pair.chosen.tokens, -pair.rejected.tokens))
    return _each_once(ordered)


def _random(pairs: list[PairOf], draw: random.Random) -> list[PairOf]:
    return draw.sample(pairs, len(pairs))


RULES: dict[Rule, Callable[[list[PairOf], random.Random], list[PairOf]]] = {
    "best_worst": _best_worst,
    "best_others": _best_others,
    "widest": _widest,
    "length_matched": _length_matched,
    "max_random": _max_random,
    "random": _random,
    "quality_tiers": _by_length,
}
"""By rule: all possible pairs of a prompt in the order in which they are taken."""
