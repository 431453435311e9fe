"""AlpacaEval 2 scores: the published numbers, closed forms, the package's own length control, and bad files."""

from __future__ import annotations

import csv
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from alpaca_eval_files import (
    ALL_MODELS,
    MODELS,
    annotation,
    annotations_of,
    install_asset,
    leaderboard,
    made_up_df_gamed,
    outputs_of,
    published,
    published_annotations,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from aipo_lab.benchmarks.alpaca_eval.difficulty import Instructions
from aipo_lab.benchmarks.alpaca_eval.metrics import MIN_PROMPTS
from aipo_lab.benchmarks.alpaca_eval.package import difficulty_file, package_module
from aipo_lab.benchmarks.alpaca_eval.scoring import score_alpaca_eval
from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.jsonl import write_json

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_fetched_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "no-cache"))


def write(folder: Path, rows: Any, name: str = "annotations.json") -> Path:
    write_json(folder / name, rows)
    return folder / name


def outputs_for(rows: list[Row], **changes: Any) -> list[Row]:
    return [
        {"instruction": row["instruction"], "output": row["output_2"], "generator": row["generator_2"], **changes}
        for row in rows
    ]


# ---------------------------------------------------------------------------------------------- published numbers


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("with_outputs", [True, False])
def test_published_win_rate_and_mean_length(model: str, with_outputs: bool) -> None:
    judged = score_alpaca_eval(annotations_of(model), outputs_of(model) if with_outputs else None)
    table = leaderboard(model)
    assert judged.scores["win_rate"].value == pytest.approx(table["win_rate"], abs=1e-6)
    assert judged.scores["length_chars"].value == table["avg_length"]
    assert judged.scores["win_rate"].n == judged.scores["length_chars"].n == 805
    assert (judged.model, dict(judged.unjudged)) == (model, {})


@pytest.mark.parametrize("model", MODELS)
def test_published_standard_error(model: str) -> None:
    package = Path(package_module("alpaca_eval").__file__).parent
    table = package / "leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    with table.open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row[""] == model)
    se = score_alpaca_eval(annotations_of(model)).scores["win_rate"].se
    assert se == pytest.approx(float(row["standard_error"]), abs=1e-6)


@pytest.mark.parametrize("model", ALL_MODELS)
def test_published_length_controlled_win_rate_without_any_asset(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "nothing here"))
    judged = score_alpaca_eval(annotations_of(model))
    assert judged.scores["lc_win_rate"].value == pytest.approx(leaderboard(model)["length_controlled_winrate"], abs=0.2)
    assert "rebuilt from public files" in judged.notes[0]


@pytest.mark.parametrize("model", MODELS)
def test_published_length_controlled_win_rate(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    df_gamed = published() / "df_gamed.csv"
    if not df_gamed.is_file():
        pytest.skip("df_gamed.csv is not among the files in AIPO_LAB_ASSETS")
    install_asset(tmp_path / "cache", monkeypatch, df_gamed=df_gamed)
    rate = score_alpaca_eval(annotations_of(model)).scores["lc_win_rate"].value
    assert rate == pytest.approx(leaderboard(model)["length_controlled_winrate"], abs=0.01)


def test_by_row_is_the_official_codes_number_where_few_rows_are_missing(tmp_path: Path) -> None:
    rows = published_annotations("claude")
    short = rows[:100] + rows[103:]
    scores = score_alpaca_eval(write(tmp_path, short)).scores
    with Instructions.rebuilt().file() as df_gamed:
        official = package_rate(short, df_gamed)["length_controlled_winrate"]
    assert scores["lc_win_rate_by_row"].value == pytest.approx(official, abs=1e-12)
    assert abs(scores["lc_win_rate"].value - leaderboard("claude")["length_controlled_winrate"]) < 0.5
    assert abs(official - scores["lc_win_rate"].value) > 1  # most questions get another one's difficulty
    assert "lc_win_rate_by_row" not in score_alpaca_eval(annotations_of("claude")).scores


def test_a_subset_is_not_taken_for_a_file_with_gaps_and_few_prompts_are_said_to_be_regularised(tmp_path: Path) -> None:
    rows = published_annotations("claude")
    judged = score_alpaca_eval(write(tmp_path, rows[::16]))
    assert "lc_win_rate_by_row" not in judged.scores
    assert any("lc_win_rate of 51 prompts is regularised" in note for note in judged.notes)
    few = score_alpaca_eval(write(tmp_path, rows[: MIN_PROMPTS - 1]))
    assert "lc_win_rate" not in few.scores
    assert "needs at least 20 judged prompts, there are 19" in few.notes[0]


# ------------------------------------------------------------------------------------------------- length control


@pytest.fixture
def df_gamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up df_gamed.csv, installed as an asset."""
    path = made_up_df_gamed(tmp_path / "df_gamed.csv")
    install_asset(tmp_path / "cache", monkeypatch, df_gamed=path)
    return path


def package_rate(rows: list[Row], df_gamed: Path, **settings: Any) -> Row:
    with difficulty_file(df_gamed) as package:
        rates: Row = package.get_length_controlled_winrate(rows, save_weights_dir=None, **settings)
    return rates


@pytest.mark.parametrize("model", MODELS)
def test_the_length_controlled_rate_is_the_packages_own(model: str, df_gamed: Path) -> None:
    expected = package_rate(published_annotations(model), df_gamed)
    judged = score_alpaca_eval(annotations_of(model), outputs_of(model))
    rate = judged.scores["lc_win_rate"]
    assert rate.value == pytest.approx(expected["length_controlled_winrate"], abs=1e-12)
    assert rate.se is not None
    assert rate.se > 1.5 * expected["lc_standard_error"]  # which is that of the predictions' mean
    assert "the official df_gamed.csv" in judged.notes[0]


def test_rows_in_another_order_get_the_difficulties_of_their_instructions(tmp_path: Path, df_gamed: Path) -> None:
    rows = published_annotations("alpaca-7b")
    shuffled = [rows[n] for n in np.random.default_rng(1).permutation(805)]
    rate = score_alpaca_eval(write(tmp_path, shuffled)).scores["lc_win_rate"].value
    assert rate == pytest.approx(package_rate(rows, df_gamed)["length_controlled_winrate"], abs=1e-12)
    # which the package, going by the place in the file, does not give
    assert abs(rate - package_rate(shuffled, df_gamed)["length_controlled_winrate"]) > 1e-3


def test_with_rows_missing_the_others_keep_their_difficulties(tmp_path: Path, df_gamed: Path) -> None:
    rows = published_annotations("gpt4_gamed")
    kept, gone = [n for n in range(805) if n % 7], [n for n in range(805) if not n % 7]
    rate = score_alpaca_eval(write(tmp_path, [rows[n] for n in kept])).scores["lc_win_rate"].value
    # The same data with the kept instructions first: there, the place in the short file is the right one.
    reordered = made_up_df_gamed(tmp_path / "reordered.csv", np.array(kept + gone))
    short = [rows[n] for n in kept]
    assert rate == pytest.approx(package_rate(short, reordered)["length_controlled_winrate"], abs=1e-6)
    assert abs(rate - package_rate(short, df_gamed)["length_controlled_winrate"]) > 1e-3


def test_rows_without_a_preference_do_not_shift_the_difficulties(tmp_path: Path, df_gamed: Path) -> None:
    rows = published_annotations("gpt4_gamed")
    for n in range(0, 805, 10):
        rows[n]["preference"] = None
    judged = score_alpaca_eval(write(tmp_path, rows))
    expected = package_rate(rows, df_gamed)
    assert judged.scores["lc_win_rate"].value == pytest.approx(expected["length_controlled_winrate"], abs=1e-12)
    assert judged.scores["win_rate"].value == pytest.approx(expected["win_rate"], abs=1e-12)
    assert judged.scores["lc_win_rate"].n == judged.scores["win_rate"].n == 805 - 81
    assert len(judged.unjudged) == 81
    assert any("81 questions have no preference" in note for note in judged.notes)


def test_other_questions_than_alpaca_evals_have_no_official_length_control(tmp_path: Path, df_gamed: Path) -> None:
    judged = score_alpaca_eval(write(tmp_path, [annotation(n) for n in range(20)]))
    assert "lc_win_rate" not in judged.scores
    assert "20 questions are not AlpacaEval's" in judged.notes[0]


def test_equal_length_differences_leave_nothing_to_control(tmp_path: Path, df_gamed: Path) -> None:
    rows = published_annotations("gpt4_gamed")[:20]
    same = [{**row, "output_1": "baseline", "output_2": "ours"} for row in rows]
    judged = score_alpaca_eval(write(tmp_path, same))
    assert "lc_win_rate" not in judged.scores
    assert "same number of characters" in judged.notes[0]


# ---------------------------------------------------------------------------------------------------- closed forms

preferences = st.one_of(
    st.none(),
    st.sampled_from([0, 1, 2, -1, float("nan")]),
    st.floats(1, 2, allow_nan=False),
    st.integers(1, 2).map(float),
)


@settings(max_examples=30)
@given(
    values=st.lists(preferences, min_size=1, max_size=40),
    lengths=st.lists(st.integers(0, 300), min_size=40, max_size=40),
)
def test_generated_files_have_the_rates_of_the_closed_forms(values: list[float | None], lengths: list[int]) -> None:
    rows = [annotation(n, value, output_2="x" * lengths[n]) for n, value in enumerate(values)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        path.write_text(json.dumps(rows))
        judged = score_alpaca_eval(path)
    assert judged.scores["length_chars"].value == sum(lengths[: len(rows)]) // len(rows)
    wins = [0.5 if value == 0 else value - 1 for value in values if value not in (None, -1) and value == value]
    assert len(judged.unjudged) == len(values) - len(wins)
    if not wins:
        assert set(judged.scores) == {"length_chars"}
        assert "no rate is reported" in judged.notes[0]
        return
    rate = judged.scores["win_rate"]
    assert rate.n == len(wins)
    assert rate.value == pytest.approx(100 * fmean(wins), abs=1e-9)
    expected_se = 100 * stdev(wins) / math.sqrt(len(wins)) if len(wins) > 1 else None
    assert rate.se == (None if expected_se is None else pytest.approx(expected_se, abs=1e-9))


def test_older_files_with_the_first_eight_keys_give_the_same_scores(tmp_path: Path) -> None:
    rows = published_annotations("alpaca-7b")
    older = [{key: row[key] for key in annotation(0)} for row in rows]
    assert score_alpaca_eval(write(tmp_path, older)).scores == score_alpaca_eval(annotations_of("alpaca-7b")).scores


def test_outputs_without_an_annotation_are_unjudged_and_count_for_the_length(tmp_path: Path) -> None:
    rows = [annotation(n) for n in range(5)]
    outputs = write(tmp_path, outputs_for([*rows, annotation(90)]), "model_outputs.json")
    judged = score_alpaca_eval(write(tmp_path, rows), outputs)
    assert judged.unjudged == {"question 90": "no annotation in the file"}
    assert judged.scores["length_chars"].n == 6
    assert judged.scores["win_rate"].n == 5


# ------------------------------------------------------------------------------------------------------- bad files

BAD_ANNOTATIONS: dict[str, tuple[Callable[[list[Row]], Any], list[str]]] = {
    "an object": (lambda rows: {"rows": rows}, ["JSON list"]),
    "an empty list": (lambda rows: [], ["at least one"]),
    "texts": (lambda rows: ["a", "b"], ["JSON list of at least one object"]),
    "outputs instead": (outputs_for, ["holds a model's outputs"]),
    "MT-Bench judgments": (
        lambda rows: [{"question_id": 1, "score": 3}],
        ["'instruction' is missing", "'preference' is missing", "'output_1'"],
    ),
    "two models": (lambda rows: [*rows, annotation(9, generator_2="other")], ["one model", "'ours'", "'other'"]),
    "two baselines": (lambda rows: [*rows, annotation(9, generator_1="other")], ["one baseline", "'other' (1 rows)"]),
    "two judges": (lambda rows: [*rows, annotation(9, annotator="other")], ["one judge", "'other'"]),
    "a repeated question": (lambda rows: [*rows, annotation(2)], ["more than once", "question 2"]),
    "a preference of 3": (lambda rows: [*rows, annotation(9, 3.0)], ["neither in 1..2", "numbers 6"]),
    "a preference in words": (lambda rows: [*rows, annotation(9, "m")], ["neither in 1..2"]),  # type: ignore[arg-type]
    "a true preference": (lambda rows: [*rows, annotation(9, True)], ["neither in 1..2"]),
    "an answer that is null": (lambda rows: [*rows, annotation(9, output_2=None)], ["'output_2'", "numbers 6"]),
    "all at once": (
        lambda rows: [*rows, annotation(2, 3.0, generator_2="other", output_1=7)],
        ["one model", "more than once", "neither in 1..2", "'output_1'"],
    ),
    "reversed sides": (
        lambda rows: [{**row, "generator_1": "ours", "generator_2": "gpt4_1106_preview"} for row in rows],
        ["reversed", "'ours' stands in output_1"],
    ),
}


@pytest.mark.parametrize("name", BAD_ANNOTATIONS)
def test_bad_annotation_files_are_refused_with_every_problem(name: str, tmp_path: Path) -> None:
    damage, expected = BAD_ANNOTATIONS[name]
    path = write(tmp_path, damage([annotation(n) for n in range(5)]))
    with pytest.raises(UserError) as error:
        score_alpaca_eval(path)
    assert str(path) in str(error.value)
    for part in expected:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b'{"instruction": "a"}\n{"instruction": "b"}\n', "not one object per line"),
        (b"[{", "cannot be read as .json"),
        (b"\xff\xfe[\x00", "cannot be read as .json"),
    ],
)
def test_files_that_are_not_json_are_refused(content: bytes, part: str, tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_bytes(content)
    with pytest.raises(UserError, match=part):
        score_alpaca_eval(tmp_path / "annotations.json")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.json"):
        score_alpaca_eval(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda rows: rows[1:], "1 judged questions are not among the outputs: 'question 0'"),
        (lambda rows: [{**rows[0], "output": "edited"}, *rows[1:]], "1 judged answers differ from the outputs"),
        (lambda rows: [{**row, "generator": "other"} for row in rows], "judges 'ours', but the outputs are of 'other'"),
        (lambda rows: [{**row, "generator": "gpt4_1106_preview"} for row in rows], "give the outputs of 'ours'"),
        (lambda rows: [{**rows[0], "generator": "other"}, *rows[1:]], "outputs of one model are needed"),
        (lambda rows: [*rows, rows[0]], "more than once"),
        (lambda rows: [{**rows[0], "output": 3}, *rows[1:]], "'output' is missing or no text"),
        (lambda rows: [{**rows[0], "output": "half an emoji"}, *rows[1:]], "1 judged answers differ from the outputs"),
        (lambda rows: [annotation(n) for n in range(5)], "holds annotations, not a model's outputs"),
    ],
)
def test_outputs_that_do_not_belong_to_the_annotations_are_refused(
    damage: Callable[[list[Row]], list[Row]], part: str, tmp_path: Path
) -> None:
    rows = [annotation(n) for n in range(5)]
    outputs = write(tmp_path, damage(outputs_for(rows)), "model_outputs.json")
    outputs.write_text(outputs.read_text().replace("half an emoji", r"\ud83d"))
    with pytest.raises(UserError, match="(?s)" + part):
        score_alpaca_eval(write(tmp_path, rows), outputs)


def test_sides_reversed_against_a_baseline_of_ones_own_show_by_the_outputs(tmp_path: Path) -> None:
    rows = [annotation(n, generator_1="ours", generator_2="base") for n in range(5)]
    outputs = write(tmp_path, outputs_for(rows, generator="ours"), "model_outputs.json")
    with pytest.raises(UserError, match="reversed"):
        score_alpaca_eval(write(tmp_path, rows), outputs)
    score_alpaca_eval(write(tmp_path, rows), write(tmp_path, outputs_for(rows), "of_base.json"))


def test_the_baseline_against_itself_is_no_reversal(tmp_path: Path) -> None:
    rows = [annotation(n, 1.5, generator_2="gpt4_1106_preview") for n in range(5)]
    assert score_alpaca_eval(write(tmp_path, rows)).scores["win_rate"].value == 50


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "alpaca_eval.metrics", None)  # what Python sees of a package that is not there
    with pytest.raises(MissingDependency, match="pip install"):
        score_alpaca_eval(write(tmp_path, [annotation(n) for n in range(3)]))
