"""The data linter: what in an iteration's pairs and training a person should look at, in words.

Every rule has a threshold, a reason and a next step. It judges what stages wrote in their summaries and the training
curve; nothing is computed again. A rule says nothing where what it needs is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aipo_lab.curation.pair_statistics import NEAR_DUPLICATE, PairStatistics

CLEAR_SE = 2.0
"""Standard errors beyond which a difference is not chance."""


@dataclass(frozen=True)
class TrainingDrift:
    """How the log-probabilities of responses moved during a training, in nats a response, from its start to its end.

    `chosen` and `rejected` are means over the last quarter of the steps. `se` is the standard error of `chosen`, and
    of `margin`; 0 where it cannot be told.
    """

    chosen: float
    rejected: float
    chosen_se: float = 0.0
    margin_se: float = 0.0

    @property
    def margin(self) -> float:
        """By how much s_theta grew."""
        return self.chosen - self.rejected


@dataclass(frozen=True)
class DataFacts:
    """What is known of one iteration's data; None or nothing where it is not.

    `counts` are pairs kept and left out by reason, `earlier_yield` the share of them kept in the iteration before.
    `prompts` were ranked, of which in `all_tied` all candidates scored the same. `responses` were generated, of which
    `truncated` ran into the cap.
    """

    statistics: PairStatistics | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    earlier_yield: float | None = None
    prompts: int | None = None
    all_tied: int | None = None
    responses: int | None = None
    truncated: int | None = None
    drift: TrainingDrift | None = None

    @property
    def pair_yield(self) -> float | None:
        """The share of possible pairs that were kept."""
        total = sum(self.counts.values())
        return self.counts.get("kept", 0) / total if total else None


@dataclass(frozen=True)
class Rule:
    """One rule. `find` gives what is the case, in words, or None; `threshold` and `reason` say why it is told."""

    name: str
    threshold: float
    unit: str
    reason: str
    next_step: str
    find: Callable[[DataFacts, float], str | None]


@dataclass(frozen=True)
class Finding:
    """What a rule found."""

    rule: Rule
    what: str

    @property
    def text(self) -> str:
        """The whole sentence: what is the case, why that matters, what to do."""
        return f"{self.what}. {self.rule.reason} {self.rule.next_step}"


def lint(facts: DataFacts) -> list[Finding]:
    """The findings of all rules, in their order."""
    found = [(rule, rule.find(facts, rule.threshold)) for rule in RULES]
    return [Finding(rule, what) for rule, what in found if what is not None]


def _chosen_longer(facts: DataFacts, threshold: float) -> str | None:
    statistics = facts.statistics
    if statistics is None or statistics.length_sd == 0:
        return None
    difference, unit = statistics.length_difference, statistics.length_unit
    se = statistics.length_difference_sd / math.sqrt(statistics.pairs)
    effect = difference / statistics.length_sd
    if effect < threshold or difference <= CLEAR_SE * se:
        return None
    return (
        f"chosen responses are longer than rejected ones by {difference:.1f} {unit} on average, {effect:.2f} standard "
        f"deviations of all lengths (told from {threshold:g} on)"
    )


def _near_duplicates(facts: DataFacts, threshold: float) -> str | None:
    statistics = facts.statistics
    if statistics is None or statistics.near_duplicates < threshold * statistics.pairs:
        return None
    return (
        f"in {_of(statistics.near_duplicates, statistics.pairs)} pairs chosen and rejected have at least "
        f"{100 * NEAR_DUPLICATE:g} % of their words in common (told from {100 * threshold:g} % of the pairs on)"
    )


def _yield_collapses(facts: DataFacts, threshold: float) -> str | None:
    now, before = facts.pair_yield, facts.earlier_yield
    if now is None or not before or now >= threshold * before:
        return None
    lost = {name: n for name, n in facts.counts.items() if name != "kept"}
    reason = max(lost, key=lambda name: lost[name])
    return (
        f"{100 * now:.0f} % of the possible pairs were kept, {100 * before:.0f} % in the iteration before (told below "
        f"{threshold:g} times as many); most are lost to {reason}, {lost[reason]}"
    )


def _ties(facts: DataFacts, threshold: float) -> str | None:
    if not facts.prompts or facts.all_tied is None or _all_equal_scores(facts, 1.0):
        return None
    if facts.all_tied < threshold * facts.prompts:
        return None
    return (
        f"all candidates of {_of(facts.all_tied, facts.prompts)} prompts scored the same (told from "
        f"{100 * threshold:g} % on)"
    )


def _all_equal_scores(facts: DataFacts, threshold: float) -> str | None:
    if facts.prompts and facts.all_tied is not None and facts.all_tied >= threshold * facts.prompts:
        return f"the candidates of every one of {facts.prompts} prompts all scored the same"
    statistics = facts.statistics
    if statistics is None or statistics.equal_scores is None or statistics.equal_scores < threshold * statistics.pairs:
        return None
    return f"chosen and rejected scored the same in every one of {statistics.pairs} pairs"


def _truncated(facts: DataFacts, threshold: float) -> str | None:
    n, of, what = facts.truncated, facts.responses, "candidates"
    if of is None and facts.statistics is not None:
        n, of, what = facts.statistics.truncated, 2 * facts.statistics.pairs, "responses in pairs"
    if n is None or not of or n < threshold * of:
        return None
    return f"{_of(n, of)} {what} ran into the cap on tokens (told from {100 * threshold:g} % on)"


def _chosen_falls(facts: DataFacts, threshold: float) -> str | None:
    drift = facts.drift
    if drift is None or drift.chosen > -threshold or drift.chosen >= -CLEAR_SE * drift.chosen_se:
        return None
    return (
        f"training made chosen responses less likely, by {-drift.chosen:.1f} nats a response at its end (told from "
        f"{threshold:g} on)"
    )


def _margin_by_rejected(facts: DataFacts, threshold: float) -> str | None:
    drift = facts.drift
    if drift is None or drift.chosen > 0 or drift.margin < threshold or drift.margin <= CLEAR_SE * drift.margin_se:
        return None
    return (
        f"the margin grew by {drift.margin:.1f} nats only because rejected responses fell (by {-drift.rejected:.1f}); "
        f"chosen ones did not rise (told from a margin of {threshold:g} on)"
    )


def _of(n: int, total: int) -> str:
    return f"{n} of {total} ({100 * n / total:.0f} %)"


RULES: tuple[Rule, ...] = (
    Rule(
        "all_equal_scores",
        1.0,
        "share of the prompts, or of the pairs",
        "Such a ranker says nothing, and what is chosen is chance.",
        "Look at the ranker: its model, its template, the scores it can give.",
        _all_equal_scores,
    ),
    Rule(
        "ties",
        0.1,
        "share of the prompts",
        "Tied prompts make no pair, so their generation is wasted, and training sees the easier prompts.",
        "Raise respond.n_candidates or respond.sampling.temperature, or use a ranker with finer scores.",
        _ties,
    ),
    Rule(
        "chosen_longer",
        0.2,
        "standard deviations of the lengths",
        "Every objective then teaches length beside quality, and each iteration adds to it.",
        "Set pair.select.length_penalty or pair.select.rule=length_matched, or train with r_dpo or ld_dpo.",
        _chosen_longer,
    ),
    Rule(
        "near_duplicates",
        0.1,
        "share of the pairs",
        "There is little to prefer in them, and pushing nearly equal texts apart moves the tokens they share.",
        "Raise respond.sampling.temperature or respond.n_candidates, or set pair.select.duplicates=normalised and "
        "pair.select.min_margin.",
        _near_duplicates,
    ),
    Rule(
        "yield_collapses",
        0.7,
        "times the share kept in the iteration before",
        "A policy whose responses fail the filters, or tie, has changed in more than taste.",
        "Look at its responses (aipo-lab browse), then at the filter that takes most.",
        _yield_collapses,
    ),
    Rule(
        "truncated",
        0.1,
        "share of the responses",
        "A cut response has no end, so its length and its end are not learnt, and rankers judge half an answer.",
        "Raise respond.sampling.max_new_tokens, or set pair.drop_truncated=true.",
        _truncated,
    ),
    Rule(
        "chosen_falls",
        1.0,
        "nats a response",
        "Probability leaves both responses for texts nobody ranked.",
        "Add an NLL term (aipo's lambda, dpo_nll's alpha), lower train.learning_rate, or raise objective.beta.",
        _chosen_falls,
    ),
    Rule(
        "margin_by_rejected",
        1.0,
        "nats of margin",
        "The policy learns what to avoid and not what to write.",
        "Add an NLL term (aipo's lambda, dpo_nll's alpha), or try apo_zero.",
        _margin_by_rejected,
    ),
)


ROLES = ("chosen", "rejected")


def training_drift(
    curve: Sequence[Mapping[str, float]], beta: float, reference_free: bool, per_token: bool
) -> TrainingDrift | None:
    """The drift that a curve (rows of `curve.jsonl`) tells, None where it is too short to tell or an older one.

    Against a reference, a pair's log-ratio is its reward over `beta` (`per_token`: of one token), compared with the
    first step's, where nothing has been learnt. Without one, different pairs are compared: log-probabilities a token of
    the last quarter of the steps with the first quarter's, at the mean length.
    """
    quarter = max(1, len(curve) // 4)
    measured = "logps" if reference_free else "reward"
    needed = {name for role in ROLES for name in (f"length_{role}_tokens", f"{measured}_{role}")}
    if len(curve) < 2 or (reference_free and quarter < 2) or beta <= 0 or any(needed - row.keys() for row in curve):
        return None
    moved = {}
    for role in ROLES:
        lengths = [row[f"length_{role}_tokens"] for row in curve]
        if reference_free:
            mean = sum(lengths) / len(lengths)
            moved[role] = [row[f"logps_{role}"] / n * mean for row, n in zip(curve, lengths, strict=True)]
        else:
            scale = lengths if per_token else [1.0] * len(curve)
            moved[role] = [row[f"reward_{role}"] / beta * n for row, n in zip(curve, scale, strict=True)]
    margins = [chosen - rejected for chosen, rejected in zip(moved["chosen"], moved["rejected"], strict=True)]
    first = quarter if reference_free else 1
    change = {role: _mean(values[-quarter:]) - _mean(values[:first]) for role, values in moved.items()}
    errors = [_se(values[-quarter:]) + (_se(values[:first])) for values in (moved["chosen"], margins)]
    return TrainingDrift(change["chosen"], change["rejected"], *errors)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _se(values: Sequence[float]) -> float:
    """The standard error of the mean; 0 for a single value, whose error cannot be told."""
    if len(values) < 2:
        return 0.0
    mean = _mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
