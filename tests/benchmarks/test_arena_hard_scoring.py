"""Scoring existing Arena-Hard files: several models, folders, answers and baselines, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from arena_hard_files import cl100k_folder, install, official, v01_answer, v01_row, v2_row, write_lines

from aipo_lab.benchmarks.arena_hard.scoring import score_arena_hard
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl

WON, LOST, TIED = ["B>A", "A>B"], ["A>>B", "B>>A"], ["A=B", "A=B"]


def test_one_file_may_hold_several_models_best_first(tmp_path: Path) -> None:
    rows = [v01_row("1", LOST, "worse"), v01_row("1", WON, "better"), v01_row("2", TIED, "worse")]
    scored = score_arena_hard(write_lines(tmp_path / "j.jsonl", rows))
    assert list(scored) == ["better", "worse"]
    assert scored["better"].scores["win_rate"].value == 100
    assert scored["worse"].scores["win_rate"].value == pytest.approx(100 / 8)
    assert scored["worse"].scores["win_rate"].n == 2
    assert scored["worse"].version == "v0.1"
    assert (scored["worse"].judge, scored["worse"].baseline) == ("gpt-4-1106-preview", "gpt-4-0314")


def test_a_folder_is_scored_file_by_file_whatever_else_is_in_it(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [v01_row("1", WON, "a")])
    alone = score_arena_hard(tmp_path)["a"]
    write_lines(tmp_path / "b.jsonl", [v2_row("1", LOST, "b")])
    (tmp_path / "notes.txt").write_text("not a judgment")
    together = score_arena_hard(tmp_path)
    assert together["a"] == alone
    assert together["b"].version == "v2"


def test_a_folder_of_judges_folders_is_an_error_that_names_them(tmp_path: Path) -> None:
    folder = tmp_path / "model_judgment"
    for judge in ("judge-b", "judge-a"):
        (folder / judge).mkdir(parents=True)
        write_lines(folder / judge / "m.jsonl", [v01_row("1", WON)])
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=rf"holds no .jsonl file; give one of: {folder}/judge-a, {folder}/judge-b$"):
        score_arena_hard(folder)
    with pytest.raises(UserError, match=r"holds no .jsonl file; give a file, or a folder of them"):
        score_arena_hard(folder / "empty")
    assert score_arena_hard(folder / "judge-a").keys() == {"m"}


def test_categories_with_different_baselines_are_scored_apart(tmp_path: Path) -> None:
    rows = [v2_row("1", WON), v2_row("2", LOST, category="creative_writing", baseline="gemini-2.0-flash-001")]
    scored = score_arena_hard(write_lines(tmp_path / "j.jsonl", rows))
    assert scored["m (hard_prompt)"].scores["win_rate"].value == 100
    assert scored["m (creative_writing)"].scores["win_rate"].value == 0
    assert scored["m (creative_writing)"].baseline == "gemini-2.0-flash-001"


def test_games_that_do_not_count_are_listed_with_reasons(tmp_path: Path) -> None:
    old, new = ["A>>B", None], ["A>>B", None]
    scored = score_arena_hard(write_lines(tmp_path / "v01.jsonl", [v01_row("1", old), v01_row("2", WON)]))["m"]
    assert scored.unjudged == {"1 game 2": "no verdict label"}
    assert scored.scores["win_rate"].value == pytest.approx(100 * 2 / 5)
    scored = score_arena_hard(write_lines(tmp_path / "v2.jsonl", [v2_row("1", new), v2_row("2", WON)]))["m"]
    assert scored.unjudged == {"1 game 1": "left out with the other game, as v2 does", "1 game 2": "not in the file"}
    assert scored.scores["win_rate"].value == 100


def test_problems_are_reported_all_at_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [v01_row("1", WON), v01_row("2", WON, judge="another")])
    write_lines(tmp_path / "b.jsonl", [v01_row("1", WON), v01_row("1", [None, None], "silent")])
    write_lines(tmp_path / "c.jsonl", [v2_row("1", WON, "v"), v2_row("2", WON, "v", baseline="p")])
    with pytest.raises(UserError) as caught:
        score_arena_hard(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        "  - a.jsonl has several judges of m (another, gpt-4-1106-preview): a file can have one",
        "  - m is both in a.jsonl and in b.jsonl; remove one of them",
        "  - b.jsonl has no verdict on silent: judge it again",
        "  - c.jsonl has several baselines of v (o3-mini, p): a file can have one",
    ]


def test_without_answers_the_missing_metrics_are_named(tmp_path: Path) -> None:
    scored = score_arena_hard(write_lines(tmp_path / "j.jsonl", [v01_row("1", WON)]))["m"]
    assert set(scored.scores) == {"win_rate", "win_rate_ci_low", "win_rate_ci_high"}
    assert scored.notes == ("length_tokens and lc_win_rate need the answers",)


def test_answers_of_the_baseline_may_come_along(tmp_path: Path) -> None:
    judgments = write_lines(tmp_path / "j.jsonl", [v2_row("1", WON), v2_row("2", LOST), v2_row("3", TIED)])
    (tmp_path / "answers").mkdir()
    for model, lengths in {"m": (900, 100, 300), "o3-mini": (300, 300, 300)}.items():
        rows = [v01_answer(str(number), "text", tokens, model) for number, tokens in enumerate(lengths, 1)]
        write_lines(tmp_path / "answers" / f"{model}.jsonl", rows)
    scored = score_arena_hard(judgments, tmp_path / "answers")["m"]
    assert scored.scores["length_tokens"].value == 433
    assert 0 < scored.scores["lc_win_rate"].value < 100
    assert scored.notes == ()


def test_without_the_baselines_answers_the_reason_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "cache", monkeypatch)
    answers = write_lines(tmp_path / "a.jsonl", [v01_answer("1", "text", 7)])
    old = score_arena_hard(write_lines(tmp_path / "j.jsonl", [v01_row("1", WON)]), answers)["m"]
    assert "lc_win_rate" not in old.scores
    assert "aipo-lab assets fetch arena-hard" in old.notes[0]
    new = score_arena_hard(write_lines(tmp_path / "j.jsonl", [v2_row("1", WON)]), answers)["m"]
    assert new.notes == (
        "lc_win_rate needs the baseline's answers: no answers of o3-mini are given, only of m; check --answers",
    )


def test_answers_that_do_not_fit_the_judgments_are_refused(tmp_path: Path) -> None:
    judgments = write_lines(tmp_path / "j.jsonl", [v01_row(str(number), WON) for number in range(5)])
    one = write_lines(tmp_path / "one.jsonl", [v01_answer("0", "text", 7)])
    with pytest.raises(UserError, match=r"the answers of m lack 4 of 5 judged questions \(1, 2, 3, …\)"):
        score_arena_hard(judgments, one)
    other = write_lines(tmp_path / "other.jsonl", [v01_answer("0", "text", 7, "n")])
    with pytest.raises(UserError, match="no answers of m are given, only of n; check --answers"):
        score_arena_hard(judgments, other)
    with pytest.raises(UserError, match="is not an Arena-Hard answer file"):
        score_arena_hard(judgments, judgments)
    (tmp_path / "twice").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        write_lines(tmp_path / "twice" / name, [v01_answer("0", "text", 7)])
    with pytest.raises(UserError, match=r"the answers of m are in several files of .*twice, one is b\.jsonl"):
        score_arena_hard(judgments, tmp_path / "twice")


def test_lengths_that_no_file_states_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judgments = write_lines(tmp_path / "j.jsonl", [v01_row("1", WON)])
    answers = write_lines(tmp_path / "a.jsonl", [v01_answer("1", "Hello, world!", None)])
    install(tmp_path / "empty", monkeypatch)
    with pytest.raises(UserError, match="aipo-lab assets fetch cl100k-base"):
        score_arena_hard(judgments, answers)
    monkeypatch.undo()
    install(tmp_path / "full", monkeypatch, cl100k_base=cl100k_folder())
    assert score_arena_hard(judgments, answers)["m"].scores["length_tokens"].value == 4


def test_the_baselines_answers_come_from_the_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that gave the baseline's own answers has the leaderboard's 423 tokens, and length explains nothing."""
    install(tmp_path / "cache", monkeypatch, arena_hard=official())
    rows = read_jsonl(official() / "model_answer" / "gpt-4-0314.jsonl")
    answers = write_lines(tmp_path / "a.jsonl", [{**row, "model_id": "m"} for row in rows])
    ids = [row["question_id"] for row in rows]
    verdicts = [(WON, LOST, TIED)[number % 3] for number in range(len(ids))]
    judgments = write_lines(tmp_path / "j.jsonl", [v01_row(id_, pair) for id_, pair in zip(ids, verdicts, strict=True)])
    scores = score_arena_hard(judgments, answers)["m"].scores
    assert scores["length_tokens"].value == 423
    assert scores["win_rate"].value == pytest.approx(100 * (167 * 2 + 166) / (167 * 8 + 166 * 2))
    assert scores["lc_win_rate"].value == pytest.approx(scores["win_rate"].value, abs=0.01)
