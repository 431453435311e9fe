"""Official benchmarks in a sweep: which iterations are judged, that shared answers are judged once, money, secrets."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from judging.judge_server import JudgeServer
from official_assets import KEY
from test_evaluation import AIPO_LAB, logprobs, reply
from tiny_sweep import RECIPE

from aipo_lab.browsing.entries import sweep_entries
from aipo_lab.core.jsonl import read_json
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.sweep import load_sweep

BENCHMARKS = {
    "benchmarks.alpaca_eval": {"limit": 4, "max_new_tokens": 8},
    "benchmarks.arena_hard": {"limit": 2, "max_new_tokens": 8, "baseline": "base_model"},
    "benchmarks.mt_bench": {"limit": 3, "max_new_tokens": 8, "iterations": "last"},
}
PRICES = {"gpt-4-1106-preview": {"input": 0, "output": 10}}
SPACE = [{"objective": "dpo", "beta": [0.1, 5.0]}]


def write_sweep(folder: Path, server: JudgeServer, **changes: Any) -> Path:
    judge = {"base_url": server.base_url, "concurrency": 4, "prices": PRICES}
    recipe = {**RECIPE, "iterations": 1, **BENCHMARKS, "benchmarks.judge": judge, **changes}
    path = folder / "official.yaml"
    path.write_text(yaml.safe_dump({"name": "official", "profile": "micro", "recipe": recipe, "space": SPACE}))
    return path


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [AIPO_LAB, *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_sweep_judges_each_answer_once_within_its_budget_and_tells_no_secret(cache: Path, tmp_path: Path) -> None:
    with JudgeServer(reply, logprobs=logprobs, completion_tokens=lambda body, text: body["max_tokens"]) as server:
        path = write_sweep(tmp_path, server)
        planned = run("plan", str(path), cwd=tmp_path)
        # the base model and one iteration of two trials; mt_bench at the last iteration only
        assert "judging alpaca_eval: 12 calls" in planned.stdout
        assert "judging arena_hard: 12 calls" in planned.stdout
        assert "judging mt_bench: 12 calls" in planned.stdout
        assert not server.calls

        stopped = run("sweep", str(path), "--max-cost", "0.1", cwd=tmp_path)
        assert stopped.returncode == 1, stopped.stderr
        assert "could pass the cost limit of $0.10" in stopped.stdout
        paid_usd = sum(call.body["max_tokens"] for call in server.calls) * 10 / 1e6
        assert 0 < paid_usd <= 0.1

        finished = run("sweep", str(path), "--max-cost", "5", cwd=tmp_path)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert server.answered_once()
        assert len(server.calls) == server.answered_total <= 36  # fewer where trials gave equal answers
        n_calls = len(server.calls)
        again = run("sweep", str(path), cwd=tmp_path)
        assert (again.returncode, len(server.calls)) == (0, n_calls)
    _assert_results(tmp_path / "runs" / "official")
    _assert_stages(tmp_path / "runs" / "store")
    _assert_nothing_tells(KEY, tmp_path, cache)
    for one in (planned, stopped, finished):
        assert KEY not in one.stdout + one.stderr


def _assert_results(out: Path) -> None:
    with (out / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["iteration"], row["state"]) for row in rows] == [("0", "complete"), ("1", "complete")] * 2
    for row in rows:
        assert (row["mt_bench/score"] == "") == (row["iteration"] == "0")
        assert 0 <= float(row["alpaca_eval/win_rate"]) <= 100
        assert float(row["arena_hard/n"]) == 2
    names = {path.name for path in (out / "figures").glob("*.png")}
    assert {"pareto_alpaca_eval.png", "pareto_arena_hard.png", "iterations_mt_bench.png"} <= names
    with sqlite3.connect(out / "mlflow.db") as database:
        logged = {key for (key,) in database.execute("select distinct key from metrics")}
    assert {"alpaca_eval/win_rate", "arena_hard/lc_win_rate", "mt_bench/score_turn2", "alpaca_eval/unjudged"} <= logged
    entries = Counter(entry.benchmark for entry in sweep_entries(out))
    assert entries == {"micro": 3, "alpaca_eval": 3, "arena_hard": 3, "mt_bench": 2}


def _assert_stages(store: Path) -> None:
    manifests = [read_json(path) for path in store.glob("judge_official/*/manifest.json")]
    assert Counter(one["config"]["benchmark"] for one in manifests) == {
        "alpaca_eval": 3,
        "arena_hard": 3,
        "mt_bench": 2,
    }
    against = {one["config"]["benchmark"]: "baseline" in one["inputs"] for one in manifests}
    assert against == {"alpaca_eval": False, "arena_hard": True, "mt_bench": False}


def _assert_nothing_tells(secret: str, folder: Path, apart_from: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and apart_from not in path.parents]
    assert any(path.name == "mlflow.db" for path in files) and len(files) > 100
    assert not [path for path in files if secret.encode() in path.read_bytes()]


# ---- what the graph and the recipe say, without running anything ----


def recipe(*overrides: tuple[str, Any]) -> Any:
    return build_recipe(profile_values("micro"), overrides)


@pytest.mark.parametrize(("iterations", "judged"), [("all", {0, 1, 2}), ("last", {2}), ([0, 2], {0, 2}), ([1], {1})])
def test_the_named_iterations_are_evaluated(cache: Path, tmp_path: Path, iterations: Any, judged: set[int]) -> None:
    with JudgeServer(reply) as server:
        changes = {"iterations": 2, "benchmarks.mt_bench": {"limit": 3, "iterations": iterations}}
        graph = build_graph(load_sweep(write_sweep(tmp_path, server, **changes)))
    for trial in graph.trials.values():
        assert {one.t for one in trial.iterations if "mt_bench" in one.scores} == judged
        assert all("alpaca_eval" in one.answers for one in trial.iterations)


@pytest.mark.parametrize(
    ("change", "judge_changes", "answers_change"),
    [
        (("benchmarks.judge.model", "another"), True, False),
        (("benchmarks.judge.label", "here"), True, False),
        (("benchmarks.unjudged_share", 0.1), True, False),
        (("benchmarks.judge.concurrency", 3), False, False),
        (("benchmarks.judge.max_cost_usd", 3), False, False),
        (("benchmarks.judge.base_url", "http://127.0.0.1:9/v1"), False, False),
        (("benchmarks.alpaca_eval.max_new_tokens", 9), True, True),
        (("benchmarks.alpaca_eval.limit", 5), True, True),
        (("benchmarks.mt_bench.limit", 5), False, False),
    ],
)
def test_keys_depend_on_what_determines_answers_and_verdicts_alone(
    cache: Path, tmp_path: Path, change: tuple[str, Any], judge_changes: bool, answers_change: bool
) -> None:
    with JudgeServer(reply) as server:
        path = write_sweep(tmp_path, server)
    one, other = (
        next(iter(build_graph(load_sweep(path, None, changes)).trials.values())).iterations[0]
        for changes in ([], [change])
    )
    assert (one.answers["alpaca_eval"].key != other.answers["alpaca_eval"].key) == answers_change
    assert (one.scores["alpaca_eval"].key != other.scores["alpaca_eval"].key) == judge_changes


def test_an_iteration_beyond_the_last_and_other_mistakes_are_refused() -> None:
    from aipo_lab.core.errors import UserError

    with pytest.raises(UserError, match=r"benchmarks\.mt_bench\.iterations: 7 is beyond the last one, 3"):
        recipe(("iterations", 3), ("benchmarks.mt_bench", {"iterations": [1, 7]}))
    for iterations in ([], [1, 1], [-1], "some"):
        with pytest.raises(UserError, match=r"benchmarks\.mt_bench\.iterations"):
            recipe(("benchmarks.mt_bench", {"iterations": iterations}))
    with pytest.raises(UserError, match="did you mean 'limit'"):
        recipe(("benchmarks.arena_hard", {"limits": 3}))


def test_the_judge_of_the_environment_is_saved_with_the_sweep(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPO_LAB_JUDGE_MODEL", "judge-of-the-day")
    with JudgeServer(reply) as server:
        sweep = load_sweep(write_sweep(tmp_path, server))
    assert sweep.base_values["benchmarks"]["judge"]["model"] == "judge-of-the-day"
    assert sweep.trials[0].recipe.benchmarks.judge is not None
    assert sweep.trials[0].recipe.benchmarks.judge.model == "judge-of-the-day"
    assert recipe().benchmarks.judge is None  # embedded benchmarks alone need none
