"""Scores of judgment files: random files against closed forms in exact fractions, and files that are no such files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.benchmarks.length_control import mean_estimate
from aipo_lab.benchmarks.mt_bench.judgments import FileScores, score_mt_bench
from aipo_lab.benchmarks.mt_bench.scores import clustered_mean
from aipo_lab.core.errors import UserError

CATEGORY_IDS = {
    "writing": range(81, 91),
    "roleplay": range(91, 101),
    "reasoning": range(101, 111),
    "math": range(111, 121),
    "coding": range(121, 131),
    "extraction": range(131, 141),
    "stem": range(141, 151),
    "humanities": range(151, 161),
}


def row(question_id: int, turn: int, score: float, model: str = "m", **changes: Any) -> dict[str, Any]:
    text = "No verdict." if score == -1 else f"Rating: [[{score}]]"
    official = {
        "question_id": question_id,
        "model": model,
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": "[Question]",
        "judgment": text,
        "score": score,
        "turn": turn,
        "tstamp": 1687.5,
    }
    return official | changes


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def full(**changes: Any) -> list[dict[str, Any]]:
    return [row(id_, turn, 1 + (id_ * turn) % 10, **changes) for id_ in range(81, 161) for turn in (1, 2)]


def score_one(path: Path, rows: Iterable[Any]) -> FileScores:
    (scores,) = score_mt_bench(write(path, rows)).values()
    return scores


def test_hand_computed_scores(tmp_path: Path) -> None:
    rows = [row(81, 1, 8), row(81, 2, 6), row(82, 1, 10), row(111, 1, 3), row(111, 2, -1)]
    result = score_one(tmp_path / "f", rows)
    values = {name: (estimate.value, estimate.n) for name, estimate in result.scores.items()}
    assert values == {
        "score": (27 / 4, 4),
        "score_turn1": (7, 3),
        "score_turn2": (6, 1),
        "score_writing": (8, 3),
        "score_math": (3, 1),
    }
    # Residual sums by question: 81: 14 - 13.5, 82: 10 - 6.75, 111: 3 - 6.75.
    assert result.scores["score"].se == pytest.approx(math.sqrt(3 / 2 * (0.5**2 + 3.25**2 + 3.75**2)) / 4)
    assert result.scores["score_turn2"].se is None
    assert result.scores["score_math"].se is None
    assert len(result.unjudged) == 156
    assert result.unjudged["111, turn 2"] == "no number in square brackets"
    assert result.unjudged["112, turn 1"] == "not in the file"


def test_a_complete_file_has_all_eleven_scores_and_nothing_unjudged(tmp_path: Path) -> None:
    result = score_one(tmp_path / "f", full())
    assert set(result.scores) == {"score", "score_turn1", "score_turn2", *(f"score_{name}" for name in CATEGORY_IDS)}
    assert not result.unjudged
    assert (result.duplicates, result.contradictions, result.outside_scale, result.judge) == (0, 0, 0, "gpt-4")
    turns = [result.scores[f"score_turn{turn}"].value for turn in (1, 2)]
    assert result.scores["score"].value == pytest.approx(sum(turns) / 2)


@st.composite
def judgment_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of two models over few questions, so that duplicates abound; scores may be missing or contradict texts."""
    scores = st.one_of(st.just(-1), st.integers(0, 12), st.sampled_from([2.5, 7.5, 9.9]))
    entries = st.tuples(
        st.sampled_from([81, 82, 85, 97, 104, 112, 113, 126, 135, 144, 160]), st.sampled_from([1, 2]), scores
    )
    rows = [row(*draw(entries), model=draw(st.sampled_from(["a", "b/c"]))) for _ in range(draw(st.integers(1, 40)))]
    for contradicting in draw(st.lists(st.integers(0, len(rows) - 1), unique=True, max_size=5)):
        rows[contradicting]["judgment"] = "I say [[11]], no, [[3]]"  # 11 is drawn as a score, too
    return rows


def last_rows(rows: list[dict[str, Any]], model: str) -> dict[tuple[int, int], dict[str, Any]]:
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for entry in reversed(rows):
        if entry["model"] == model:
            found.setdefault((entry["question_id"], entry["turn"]), entry)
    return found


def closed_form(ratings: Mapping[tuple[int, int], float]) -> tuple[float, float | None, int]:
    """Mean and cluster-robust standard error, in fractions, from residuals rather than from sums."""
    exact = {key: Fraction(rating) for key, rating in ratings.items()}
    mean = Fraction(sum(exact.values()), len(exact))
    questions = {id_ for id_, _ in exact}
    residuals = [sum(rating - mean for (id_, _), rating in exact.items() if id_ == question) for question in questions]
    if len(questions) == 1:
        return float(mean), None, len(exact)
    variance = Fraction(len(questions), len(questions) - 1) * sum(r * r for r in residuals) / len(exact) ** 2
    return float(mean), math.sqrt(variance), len(exact)


def expected_scores(ratings: Mapping[tuple[int, int], float]) -> dict[str, tuple[float, float | None, int]]:
    groups = {"score": ratings}
    groups |= {f"score_turn{t}": {key: value for key, value in ratings.items() if key[1] == t} for t in (1, 2)}
    groups |= {
        f"score_{name}": {key: value for key, value in ratings.items() if key[0] in ids}
        for name, ids in CATEGORY_IDS.items()
    }
    return {name: closed_form(group) for name, group in groups.items() if group}


@given(judgment_rows())
def test_random_files_equal_the_closed_forms(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "random_single.jsonl", rows)
    results = score_mt_bench(path)
    assert set(results) == {entry["model"] for entry in rows}
    for model, result in results.items():
        last = last_rows(rows, model)
        ratings = {key: entry["score"] for key, entry in last.items() if entry["score"] != -1}
        expected = expected_scores(ratings)
        assert set(result.scores) == set(expected)
        for name, (value, se, n) in expected.items():
            assert result.scores[name].value == pytest.approx(value, rel=1e-12, abs=1e-12)
            assert result.scores[name].se == (None if se is None else pytest.approx(se, rel=1e-9, abs=1e-12))
            assert result.scores[name].n == n
        assert len(result.unjudged) == 160 - len(ratings)
        assert result.duplicates == sum(entry["model"] == model for entry in rows) - len(last)
        assert result.outside_scale == sum(rating < 1 or rating > 10 for rating in ratings.values())
        said_eleven = [entry["score"] for entry in last.values() if "[[11]]" in entry["judgment"]]
        assert result.contradictions == sum(score != 11 for score in said_eleven)
        assert score_mt_bench(path, model) == {model: result}


@given(st.lists(st.floats(0, 10), min_size=2, max_size=30), st.integers(1, 3))
def test_clustering_reduces_to_the_usual_error_of_the_clusters_means(values: list[float], size: int) -> None:
    usual = mean_estimate(values)
    clustered = clustered_mean([[value] * size for value in values])
    assert clustered.value == pytest.approx(usual.value)
    assert clustered.se == pytest.approx(usual.se, abs=1e-9)
    assert clustered.n == size * usual.n


def test_the_last_of_several_rows_counts_even_without_a_rating(tmp_path: Path) -> None:
    rows = [*full(), row(81, 1, 1), row(81, 1, 9), row(82, 1, -1)]
    result = score_one(tmp_path / "f", rows)
    assert result.duplicates == 3
    assert list(result.unjudged) == ["82, turn 1"]
    assert result.scores["score_turn1"].n == 79
    expected = [9, *(1 + id_ % 10 for id_ in range(83, 161))]
    assert result.scores["score_turn1"].value == pytest.approx(sum(expected) / 79)


def test_official_rows_of_failed_calls_are_unjudged(tmp_path: Path) -> None:
    rows = [*full(), row(81, 1, -1, judgment="$ERROR$"), row(82, 1, -1, judgment="Rating: [[5]]")]
    result = score_one(tmp_path / "f", rows)
    assert result.unjudged == {"81, turn 1": "the judge could not be reached", "82, turn 1": "the file says -1"}
    assert result.contradictions == 1


def test_texts_with_several_ratings_or_another_form_are_counted(tmp_path: Path) -> None:
    rows = [row(81, 1, 5, judgment="[[5]] or [[6]]"), row(81, 2, -1, judgment="[[8/10]]"), row(82, 1, 7)]
    (result,) = score_mt_bench(write(tmp_path / "f", rows)).values()
    assert result.scores["score"].value == 6
    assert [note.split(";")[0] for note in result.notes] == [
        "1 replies hold several different ratings",
        "1 replies hold no rating in FastChat's form, [[number]], but e.g. [[8/10]]",
    ]


def test_a_file_without_texts_is_scored(tmp_path: Path) -> None:
    bare = [{key: entry[key] for key in ("question_id", "model", "judge", "score", "turn")} for entry in full()]
    result = score_one(tmp_path / "f", bare)
    assert result.scores == score_one(tmp_path / "g", full()).scores
    assert result.contradictions == 0


def test_a_model_without_any_rating_has_no_score_rather_than_a_wrong_one(tmp_path: Path) -> None:
    result = score_one(tmp_path / "f", [row(81, 1, -1)])
    assert result.scores == {}
    assert len(result.unjudged) == 160


def test_an_unknown_model_is_told_which_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "f", [*full(model="iter1"), *full(model="iter2")])
    assert list(score_mt_bench(path)) == ["iter1", "iter2"]
    with pytest.raises(UserError, match=r"'iter3'.*valid: iter1, iter2"):
        score_mt_bench(path, "iter3")


def test_several_judges_in_one_file_are_refused(tmp_path: Path) -> None:
    other = full(judge=["gpt-4-1106-preview", "single-v1"])
    with pytest.raises(UserError, match="several judges: gpt-4, gpt-4-1106-preview"):
        score_mt_bench(write(tmp_path / "f", [*full(), *other]))


PAIRWISE_ROW = {
    "question_id": 81, "model_1": "a", "model_2": "b", "g1_winner": "tie", "g2_winner": "tie",
    "judge": ["gpt-4", "pair-v2"], "turn": 1,
}  # fmt: skip
FOREIGN = {
    "a pairwise judgment": PAIRWISE_ROW,
    "aipo-lab score arena-hard": {"question_id": "ab12", "model": "m", "judge": "gpt-4", "games": []},
    "aipo-lab score alpaca-eval": {"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1.5},
    "a model's answer": {
        "question_id": 81,
        "answer_id": "x",
        "model_id": "m",
        "choices": [{"index": 0, "turns": ["", ""]}],
    },
    "files that hold one JSON list are AlpacaEval's": [{"instruction": "i", "preference": 1.5}],
    "question_id: Input should be a valid integer": row(81, 1, 5) | {"question_id": "81"},
    "question_id: Input should be less than or equal to 160": row(161, 1, 5),
    "turn: Input should be less than or equal to 2": row(81, 3, 5),
    "score: Value error, -2 is neither a rating nor -1": row(81, 1, -2),
    "score: Input should be a valid number": row(81, 1, 5) | {"score": "5"},
    "score: Input should be a finite number": row(81, 1, math.nan),
    "model: Field required": {key: value for key, value in row(81, 1, 5).items() if key != "model"},
}


@pytest.mark.parametrize("problem", FOREIGN)
def test_wrong_and_mixed_files_are_named_with_their_lines(tmp_path: Path, problem: str) -> None:
    rows = [FOREIGN[problem] if number in (3, 5, 7, 8) else entry for number, entry in enumerate(full(), 1)]
    path = write(tmp_path / "mixed.jsonl", rows)
    with pytest.raises(UserError) as caught:
        score_mt_bench(path)
    assert str(path) in str(caught.value)
    (stated,) = str(caught.value).splitlines()[1:]
    assert stated.startswith("  - lines 3, 5, 7 and 1 more: ")
    assert problem in stated


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "f", [row(81, 1, 5) | {"turn": 0, "score": "x"}, PAIRWISE_ROW])
    path.write_text(path.read_text() + '{"question_id": 81, "mod')
    with pytest.raises(UserError) as caught:
        score_mt_bench(path)
    for problem in ("line 1: score:", "line 1: turn:", "line 2: a pairwise", "line 3: not JSON (", "middle of a row"):
        assert problem in str(caught.value)


@pytest.mark.parametrize(("content", "problem"), [(None, "cannot read"), ("", "is empty"), (" \n\n", "is empty")])
def test_missing_and_empty_files_are_named(tmp_path: Path, content: str | None, problem: str) -> None:
    path = tmp_path / "gpt-4_single.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=problem) as caught:
        score_mt_bench(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        score_mt_bench(tmp_path)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(row(81, 1, 5))), json_values, min_size=1, max_size=3))
def test_rows_with_any_values_are_scored_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.jsonl", [row(81, 1, 5) | changes])
    try:
        (result,) = score_mt_bench(path).values()
    except UserError:
        return
    assert all(math.isfinite(estimate.value) for estimate in result.scores.values())


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_without_a_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError):
        score_mt_bench(path)
