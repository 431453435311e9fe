"""The long runs of the main job, done by hand with `make slow`: times, kills, the dial, the real model.

They share one store, so that the kill test's undisturbed twin costs nothing; a few minutes each.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from aipo_lab.core.store import Store
from aipo_lab.results.rows import ResultRow, read_results
from aipo_lab.sweeps.plan import build_graph, plan_stages
from aipo_lab.sweeps.sweep import load_sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

ROOT = Path(__file__).parents[2]
TABLE6 = ROOT / "sweeps" / "table6.yaml"
KILLS = 5
SWEEP_LIMIT_S = 360
REUSE_LIMIT_S = 10


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aipo_lab", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*arguments: object) -> tuple[str, float]:
    started = time.monotonic()
    output, _ = (process := start(*arguments)).communicate()
    assert process.returncode == 0, output
    return output, time.monotonic() - started


def row(rows: Sequence[ResultRow], trial: str, iteration: int) -> ResultRow:
    return next(one for one in rows if one.trial == trial and one.iteration == iteration)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Table 6 in the micro world, from nothing: its output folder and seconds."""
    folder = tmp_path_factory.mktemp("table6")
    store = Store(folder / "store")
    planned = {plan.stage: plan.distinct for plan in plan_stages(build_graph(load_sweep(TABLE6)), store)}
    _, seconds = finish("sweep", TABLE6, "--out", folder / "out", "--store", folder / "store")
    made = {stage: len(list((folder / "store" / stage).glob("*/manifest.json"))) for stage in planned}
    assert made == planned
    return folder, seconds


def test_table_6_completes_in_time_and_a_second_run_reuses_everything(undisturbed: tuple[Path, float]) -> None:
    folder, seconds = undisturbed
    print(f"\nTable 6 from nothing: {seconds:.0f} s")
    rows = read_results(folder / "out" / "results.csv")
    assert len({one.trial for one in rows}) == 20
    assert all(one.state == "complete" for one in rows)
    assert max(one.iteration for one in rows) >= 3
    output, again_s = finish("sweep", TABLE6, "--out", folder / "out", "--store", folder / "store")
    print(f"again: {again_s:.1f} s")
    assert "382 already stored" in output
    assert seconds <= SWEEP_LIMIT_S
    assert again_s <= REUSE_LIMIT_S


def test_five_kills_change_nothing(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    folder, seconds = undisturbed
    command = ["sweep", TABLE6, "--out", tmp_path / "out", "--store", tmp_path / "store"]
    moments = random.Random(time.time_ns())
    for _ in range(KILLS):
        process = start(*command)
        time.sleep(moments.uniform(5, seconds / KILLS))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(*command)
    expected = (folder / "out" / "results.csv").read_bytes()
    assert (tmp_path / "out" / "results.csv").read_bytes() == expected


def test_length_grows_with_the_dial_and_not_without(undisturbed: tuple[Path, float]) -> None:
    folder, _ = undisturbed
    sweep = ROOT / "sweeps" / "length_bias.yaml"
    finish("sweep", sweep, "--out", folder / "dial", "--store", folder / "store")
    rows = read_results(folder / "dial" / "results.csv")
    growth = {
        trial: row(rows, trial, 3).metrics["micro/length_tokens"] / row(rows, trial, 0).metrics["micro/length_tokens"]
        for trial in dict.fromkeys(one.trial for one in rows)
    }
    print(f"\nlength after 3 iterations over the base model's: {growth}")
    assert growth["dpo-b0.1-rank.length_bias=0.05"] >= 1.5
    assert growth["dpo-b0.1-rank.length_bias=0"] < 1.5


def test_two_iterations_on_a_real_model(tmp_path: Path) -> None:
    finish("assets", "fetch", "smollm2-135m")
    _, seconds = finish(
        "run", "laptop", "--set", "objective.name=aipo", "--out", tmp_path / "out", "--store", tmp_path / "store"
    )
    print(f"\nlaptop, 2 iterations: {seconds:.0f} s")
    rows = read_results(tmp_path / "out" / "results.csv")
    assert [one.state for one in rows] == ["complete"] * 3
