"""Arena-Hard scores of made-up judgments against exact fractions, the official Bradley-Terry fit and simulation."""

from __future__ import annotations

import math
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arena_hard_files import v01_answer, v01_row, v2_row, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from aipo_lab.benchmarks.arena_hard.scores import Tally, lc_win_rate, win_rate_scores
from aipo_lab.benchmarks.arena_hard.scoring import FileScores, score_arena_hard
from aipo_lab.benchmarks.length_control import INTERCEPT_PRIOR_SD, LENGTH_PRIOR_SD
from aipo_lab.core.errors import UserError

V01_LABELS = ["A>>B", "A>B", "A=B", "B>A", "B>>A"]
V2_LABELS = [*V01_LABELS, "A<<B", "A<B", "B=A", "B<A", "B<<A"]
CONTRADICTORY = "CONTRADICTORY"

question_ids = st.integers(0, 15).map("{:032x}".format)
v01_games = st.lists(st.sampled_from([*V01_LABELS, None, CONTRADICTORY, "A<B", "AB"]), min_size=0, max_size=2)
v2_games = st.lists(st.sampled_from([*V2_LABELS, None, "A>>>B"]), min_size=0, max_size=2)


def score_rows(rows: list[dict[str, Any]]) -> dict[str, FileScores]:
    with tempfile.TemporaryDirectory() as folder:
        return score_arena_hard(write_lines(Path(folder) / "judgments.jsonl", rows))


def v01_row_with_contradictions(question: str, labels: list[str | None]) -> dict[str, Any]:
    row = v01_row(question, labels)
    for game in row["games"]:
        if game["score"] == CONTRADICTORY:
            game |= {"score": None, "judgment": "\n[[A>B]], or rather [[B>A]]"}
    return row


def for_the_model(label: str | None, model_is: str) -> tuple[Fraction, int] | None:
    """The model's share of a game and the battles the game counts as, from the signs between the letters."""
    if label not in V2_LABELS:
        return None
    first, signs, last = label[0], label[1:-1], label[-1]
    weight = 3 if len(signs) == 2 else 1
    if signs == "=":
        return Fraction(1, 2), 1
    winner = first if signs[0] == ">" else last
    return Fraction(int(winner == model_is)), weight


def exact_rate(games: dict[str, list[str | None]], both: bool, known: list[str]) -> Fraction | None:
    won, played = Fraction(0), 0
    for labels in games.values():
        padded = [*labels, None, None][:2]
        results = [
            for_the_model(label if label in known else None, side) for label, side in zip(padded, "BA", strict=True)
        ]
        if both and None in results:
            continue
        for result in results:
            if result is not None:
                won += result[0] * result[1]
                played += result[1]
    return won / played if played else None


@given(st.lists(st.tuples(question_ids, v01_games), min_size=1, max_size=30))
def test_v01_files_give_the_closed_form(rows: list[tuple[str, list[str | None]]]) -> None:
    """Ties, strong, missing, contradictory and unknown verdicts; of a question judged twice the last row counts."""
    games = dict(rows)
    written = [v01_row_with_contradictions(question, labels) for question, labels in rows]
    expected = exact_rate(games, both=False, known=V01_LABELS)
    if expected is None:
        with pytest.raises(UserError, match="has no verdict on m"):
            score_rows(written)
        return
    found = score_rows(written)["m"]
    assert found.scores["win_rate"].value == pytest.approx(float(100 * expected), abs=1e-9)
    assert found.duplicates == len(rows) - len(games)
    without = {
        f"{question} game {number}"
        for question, labels in games.items()
        for number in (1, 2)
        if number > len(labels) or labels[number - 1] not in V01_LABELS
    }
    assert set(found.unjudged) == without
    low, high = found.scores["win_rate_ci_low"].value, found.scores["win_rate_ci_high"].value
    assert 0 <= low <= high <= 100


@given(st.lists(st.tuples(question_ids, v2_games), min_size=1, max_size=30))
def test_v2_files_give_the_closed_form_of_v2(rows: list[tuple[str, list[str | None]]]) -> None:
    """A question with one game without verdict counts for nothing; reversed labels are verdicts."""
    written = [v2_row(question, labels) for question, labels in rows]
    expected = exact_rate(dict(rows), both=True, known=V2_LABELS)
    if expected is None:
        with pytest.raises(UserError, match="has no verdict on m"):
            score_rows(written)
        return
    found = score_rows(written)["m"]
    assert found.version == "v2"
    assert found.interval_percent == 90
    assert found.scores["win_rate"].value == pytest.approx(float(100 * expected), abs=1e-9)


def official_fit(games: dict[str, list[str | None]]) -> float:
    """The win rate as v0.1's code has it: a Bradley-Terry model by logistic regression over copied battles."""
    from sklearn.linear_model import LogisticRegression

    features, outcomes = [], []
    for labels in games.values():
        for label, side in zip(labels, "BA", strict=True):
            result = for_the_model(label, side)
            if result is None:
                continue
            for _ in range(result[1]):
                features += [[math.log(10), -math.log(10)]] * 2
                outcomes += [1, 0] if result[0] == Fraction(1, 2) else [1 - int(result[0])] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn renames its arguments
        fit = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-12, max_iter=10_000).fit(features, outcomes)
    baseline, model = 400 * fit.coef_[0]
    return float(100 / (1 + 10 ** ((baseline - model) / 400)))


@settings(max_examples=25)
@given(st.dictionaries(question_ids, st.tuples(*[st.sampled_from([*V01_LABELS, None])] * 2).map(list), min_size=3))
def test_the_closed_form_is_the_official_bradley_terry_fit(games: dict[str, list[str | None]]) -> None:
    rate = exact_rate(games, both=False, known=V01_LABELS)
    if rate is None or rate in (0, 1):  # a model that never loses has no finite fit
        return
    found = score_rows([v01_row(question, labels) for question, labels in games.items()])
    assert found["m"].scores["win_rate"].value == pytest.approx(official_fit(games), abs=1e-4)  # percent


def tally_of(points: np.ndarray, battles: np.ndarray) -> Tally:
    return Tally([str(index) for index in range(points.size)], points.astype(float), battles.astype(float))


def simulated(rng: np.random.Generator, n: int) -> Tally:
    """Questions on which the model is good or bad, so that the games of a question agree more often than not."""
    labels = np.array(["B>>A", "B>A", "A=B", "A>B", "A>>B"])
    skill = rng.normal(-0.5, 1.0, n)
    outcomes = [for_the_model(labels[level], "B") for level in _levels(rng, skill)]
    again = [for_the_model(labels[level], "B") for level in _levels(rng, skill)]
    pairs = [(a, b) for a, b in zip(outcomes, again, strict=True) if a is not None and b is not None]
    points = np.array([float(a[0] * a[1] + b[0] * b[1]) for a, b in pairs])
    return tally_of(points, np.array([a[1] + b[1] for a, b in pairs]))


def _levels(rng: np.random.Generator, skill: np.ndarray) -> np.ndarray:
    return np.digitize(skill + rng.normal(0, 0.5, skill.size), [-1.5, -0.3, 0.3, 1.5])


def test_the_standard_error_and_the_interval_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)
    population = simulated(rng, 100_000)
    true_rate = 100 * population.points.sum() / population.battles.sum()
    results = [win_rate_scores(simulated(rng, 80), 95) for _ in range(300)]
    rates = np.array([result["win_rate"].value for result in results])
    errors = np.array([result["win_rate"].se for result in results])
    assert errors.mean() == pytest.approx(rates.std(), rel=0.12)
    covered = [r["win_rate_ci_low"].value <= true_rate <= r["win_rate_ci_high"].value for r in results]
    assert 0.90 <= np.mean(covered) <= 0.98


def test_the_interval_is_reproducible_and_narrower_at_90_percent() -> None:
    counted = simulated(np.random.default_rng(1), 200)
    wide, again, narrow = (win_rate_scores(counted, percent) for percent in (95, 95, 90))
    assert wide == again
    assert wide["win_rate_ci_low"].value < narrow["win_rate_ci_low"].value < wide["win_rate"].value
    assert wide["win_rate"].value < narrow["win_rate_ci_high"].value < wide["win_rate_ci_high"].value


def test_copies_of_a_strong_preference_are_no_evidence() -> None:
    weak = win_rate_scores(tally_of(np.tile([2, 0, 1], 30), np.full(90, 2)), 95)
    strong = win_rate_scores(tally_of(np.tile([6, 0, 3], 30), np.full(90, 6)), 95)
    assert strong == weak


def test_one_question_has_no_standard_error() -> None:
    scores = win_rate_scores(tally_of(np.array([1.5]), np.array([2])), 95)
    assert scores["win_rate"].value == scores["win_rate_ci_low"].value == scores["win_rate_ci_high"].value == 75
    assert scores["win_rate"].se is None


def lengths(values: np.ndarray) -> dict[str, int]:
    return {str(index): int(value) for index, value in enumerate(values)}


def independent_lc_rate(counted: Tally, ours: np.ndarray, theirs: np.ndarray) -> float:
    """The same model fitted to single battles by a general optimiser."""
    rows = np.repeat(np.arange(ours.size), counted.battles.astype(int))
    difference = (ours - theirs)[rows].astype(float)
    feature = np.tanh(difference / difference.std(ddof=1))
    share = (counted.points / counted.battles)[rows]

    def loss(weights: np.ndarray) -> float:
        logits = weights[0] + weights[1] * feature
        likelihood = share * np.logaddexp(0, -logits) + (1 - share) * np.logaddexp(0, logits)
        priors = (weights[0] / INTERCEPT_PRIOR_SD) ** 2 / 2 + (weights[1] / LENGTH_PRIOR_SD) ** 2 / 2
        return float(likelihood.sum() + priors)

    return float(100 / (1 + np.exp(-minimize(loss, [0.0, 0.0], tol=1e-12).x[0])))


@pytest.mark.parametrize("seed", range(3))
def test_length_control_is_the_shared_model_on_battles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counted = simulated(rng, 150)
    ours, theirs = rng.integers(50, 900, 150), rng.integers(50, 900, 150)
    found = lc_win_rate(counted, lengths(ours), lengths(theirs))
    assert found.value == pytest.approx(independent_lc_rate(counted, ours, theirs), abs=1e-3)
    resampled = []
    for _ in range(200):
        draw = rng.integers(0, 150, 150)
        chosen = tally_of(counted.points[draw], counted.battles[draw])
        resampled.append(independent_lc_rate(chosen, ours[draw], theirs[draw]))
    assert found.se == pytest.approx(np.std(resampled), rel=0.25)


def test_length_control_changes_nothing_where_lengths_are_equal() -> None:
    counted = simulated(np.random.default_rng(4), 400)
    equal = lengths(np.full(400, 300))
    assert lc_win_rate(counted, equal, equal).value == pytest.approx(
        win_rate_scores(counted, 95)["win_rate"].value, abs=0.01
    )


def test_length_control_takes_away_what_length_bought() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = rng.integers(300, 900, 500), rng.integers(200, 600, 500)
    likes_length = rng.random(500) < 1 / (1 + np.exp(-(ours - theirs) / 150))
    counted = tally_of(2.0 * likes_length, np.full(500, 2))
    rate = win_rate_scores(counted, 95)["win_rate"].value
    controlled = lc_win_rate(counted, lengths(ours), lengths(theirs))
    assert rate > 70
    assert controlled.value == pytest.approx(50, abs=3 * controlled.se if controlled.se else 0)


@given(
    st.dictionaries(question_ids, st.integers(0, 4000), min_size=2),
    st.sampled_from(["turn", "conversation"]),
    st.lists(question_ids, min_size=1, unique=True),
)
def test_the_length_is_the_truncated_mean_over_all_answers(
    tokens: dict[str, int], place: str, judged: list[str]
) -> None:
    """Answers that were not judged count too, as officially; both places of `token_len` are read."""
    judged = [question for question in judged if question in tokens] or list(tokens)[:1]
    rows = [v01_answer(question, "text", count if place == "turn" else None) for question, count in tokens.items()]
    if place == "conversation":
        rows = [{**row, "conv_metadata": {"token_len": tokens[row["question_id"]], "bold_count": {}}} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        judgments = write_lines(Path(folder) / "j.jsonl", [v01_row(question, ["A>B", "B>A"]) for question in judged])
        answers = write_lines(Path(folder) / "a.jsonl", rows)
        length = score_arena_hard(judgments, answers)["m"].scores["length_tokens"]
    assert length.value == sum(tokens.values()) // len(tokens)
    assert length.n == len(tokens)
