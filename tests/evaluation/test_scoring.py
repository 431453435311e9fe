"""`aipo-lab score` as a user runs it: published numbers from official files, one JSON object, clear errors."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from aipo_lab.cli import main
from aipo_lab.core.jsonl import write_jsonl

needs_assets = pytest.mark.skipif("AIPO_LAB_ASSETS" not in os.environ, reason="AIPO_LAB_ASSETS is not set")


def score(*arguments: str) -> dict[str, float]:
    result = CliRunner().invoke(main, ["score", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    values: dict[str, float] = json.loads(result.stdout)
    return values


@needs_assets
@pytest.mark.parametrize("model", ["gpt4_gamed", "alpaca-7b"])
def test_alpaca_eval_gives_the_published_numbers(model: str) -> None:
    folder = Path(os.environ["AIPO_LAB_ASSETS"]) / "alpaca_eval"
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as stream:
        published = next(row for row in csv.DictReader(stream) if f"/{model}/" in row["samples"])
    made = score(
        *("alpaca-eval", "--annotations"),
        str(folder / f"results/{model}/weighted_alpaca_eval_gpt4_turbo/annotations.json"),
        *("--outputs", str(folder / f"results/{model}/model_outputs.json")),
    )
    assert made["alpaca_eval/win_rate"] == pytest.approx(float(published["win_rate"]), abs=1e-6)
    assert made["alpaca_eval/length_chars"] == float(published["avg_length"])


def mt_bench_row(question_id: int, turn: int, score: float, model: str = "m") -> dict[str, object]:
    text = f"Rating: [[{score:g}]]"
    judge = ["gpt-4", "single-v1"]
    return {"question_id": question_id, "model": model, "judge": judge, "turn": turn, "score": score, "judgment": text}


def test_mt_bench_scores_one_model_as_one_object_and_several_by_name(tmp_path: Path) -> None:
    rows = [mt_bench_row(81, 1, 8), mt_bench_row(81, 2, 4), mt_bench_row(111, 1, 6)]
    write_jsonl(tmp_path / "one.jsonl", rows)
    made = score("mt-bench", "--judgments", str(tmp_path / "one.jsonl"))
    assert made["model"] == "m"
    assert made["mt_bench/score"] == 6
    assert made["mt_bench/score_turn1"] == 7
    assert made["mt_bench/score_writing"] == 6
    write_jsonl(tmp_path / "two.jsonl", [*rows, mt_bench_row(81, 1, 3, "other")])
    both = score("mt-bench", "--judgments", str(tmp_path / "two.jsonl"))
    assert set(both) == {"m", "other"}


def test_arena_hard_counts_strong_verdicts_three_times(tmp_path: Path) -> None:
    def row(number: int, first: str, second: str) -> dict[str, object]:
        games = [{"user_prompt": "", "judgment": f"[[{label}]]", "score": label} for label in (first, second)]
        return {"question_id": f"{number:032x}", "model": "m", "judge": "j", "games": games}

    write_jsonl(tmp_path / "m.jsonl", [row(1, "B>>A", "A=B"), row(2, "A>B", "B>A")])
    # question 1: 3 battles won and a tie; question 2: 2 battles lost
    assert score("arena-hard", "--judgments", str(tmp_path / "m.jsonl"))["arena_hard/win_rate"] == pytest.approx(
        100 * 3.5 / 6
    )


def test_another_benchmarks_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "m.jsonl", [mt_bench_row(81, 1, 8)])
    result = CliRunner().invoke(main, ["score", "arena-hard", "--judgments", str(tmp_path / "m.jsonl")])
    assert result.exit_code != 0
