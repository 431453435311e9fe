"""A tiny sweep end to end, run as a user runs it: results, failures, interrupts and kills."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tiny_sweep import (
    AIPO_LAB,
    RECIPE,
    Finished,
    command,
    environment,
    planned,
    read_rows,
    run,
    stage_runs,
    write_sweep,
)

from aipo_lab.cli import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("tiny")
    file, out, store = write_sweep(folder), folder / "out", folder / "store"
    plan = run([AIPO_LAB, "plan", str(file), "--store", str(store)], folder).stdout
    started = time.monotonic()
    done = run(command(file, out, store), folder)
    duration_s = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(folder, file, out, store, plan, done, duration_s, (out / "results.csv").read_bytes())


def test_a_sweep_leaves_results_figures_report_and_database(finished: Finished) -> None:
    rows = read_rows(finished.out)
    names = ["dpo-b0.1", "simpo-b2-g0.5", "aipo-b0.1-a0.05-l0.2"]
    assert [(row["trial"], row["iteration"], row["state"]) for row in rows] == [
        (name, str(t), "complete") for name in names for t in range(3)
    ]
    assert list(rows[0])[:8] == ["trial", "objective", "beta", "alpha", "gamma", "lambda", "iteration", "state"]
    for metric in (
        "quality",
        "win_rate",
        "judged_win_rate",
        "lc_win_rate",
        "length_tokens",
        "length_chars",
        "truncated",
    ):
        assert all(row[f"micro/{metric}"] and row[f"micro/{metric}_se"] for row in rows)
    assert [row["micro/win_rate"] for row in rows if row["iteration"] == "0"] == ["50"] * 3
    last = [tuple(value for name, value in row.items() if "/" in name) for row in rows if row["iteration"] == "2"]
    assert len(set(last)) == 3  # every objective led somewhere else
    assert {"sweep.yaml", "results.csv", "figures", "report.html", "mlflow.db"} <= {
        path.name for path in finished.out.iterdir()
    }
    assert any((finished.out / "figures").iterdir())
    output = finished.done.stdout
    best = json.loads((finished.out / "picks.json").read_text())["micro"]["overall"]
    row = next(r for r in rows if (r["trial"], int(r["iteration"])) == (best["trial"], best["iteration"]))
    assert float(row[best["metric"]]) == pytest.approx(best["reported"][best["metric"]], abs=1e-3)
    assert best["reported_on_other_prompts"] is False and best["certainty"]["n_prompts"] == 16
    assert "best by corner: " in output and "Picked again in " in output
    assert "3 of 3 trials complete" in output
    for part in (f"{finished.out}/results.csv", f"{finished.out}/report.html", f"aipo-lab ui {finished.out}"):
        assert part in output
    warnings = [line for line in output.splitlines() if "warning" in line]
    linted = ("warning: pairs of ", "warning: training of ")
    assert all(line.startswith(linted) for line in warnings), warnings


def test_the_sweep_did_what_the_plan_said(finished: Finished) -> None:
    rows = planned(finished.plan)
    all_stages = rows.pop("all")
    assert {stage: numbers[1] for stage, numbers in rows.items()} == stage_runs(finished.store)
    assert rows["base"] == (3, 1, 1, 0, 1)
    assert rows["reference"] == (4, 3, 1, 0, 3)  # simpo has none
    assert all_stages[1] == sum(stage_runs(finished.store).values())
    again = run([AIPO_LAB, "plan", str(finished.file), "--store", str(finished.store)], finished.folder).stdout
    for numbers in planned(again).values():
        assert numbers[3] == numbers[1] and numbers[4] == 0


def test_a_second_run_reuses_everything_and_changes_nothing(finished: Finished) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.store.rglob("*")}
    done = run(command(finished.file, finished.out, finished.store), finished.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    total = sum(stage_runs(finished.store).values())
    assert f"{total} already stored" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in finished.store.rglob("*")} == before
    assert (finished.out / "results.csv").read_bytes() == finished.results
    other = run(command(finished.file, finished.folder / "elsewhere", finished.store), finished.folder)
    assert other.returncode == 0
    assert (finished.folder / "elsewhere" / "results.csv").read_bytes() == finished.results


def test_the_resolved_sweep_is_saved_with_versions_and_seed(finished: Finished) -> None:
    saved = yaml.safe_load((finished.out / "sweep.yaml").read_text())
    assert {"aipo-lab", "torch", "transformers"} <= saved["versions"].keys()
    assert saved["recipe"]["seed"] == 0
    assert saved["recipe"]["train"]["batch_size"] == 6
    assert [trial["name"] for trial in saved["trials"]] == ["dpo-b0.1", "simpo-b2-g0.5", "aipo-b0.1-a0.05-l0.2"]
    assert "commit" in saved


def test_mlflow_has_a_run_per_sweep_and_a_child_per_trial(finished: Finished) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished.out / 'mlflow.db'}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = client.search_runs(experiments)
    children = {one.data.params["objective"]: one for one in runs if "mlflow.parentRunId" in one.data.tags}
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    assert parent.info.run_name == "tiny"
    assert parent.info.status == "FINISHED"
    assert {one.path for one in client.list_artifacts(parent.info.run_id)} >= {"figures", "report.html", "results.csv"}
    assert len(children) == len(runs) - 1 == 3
    rows = read_rows(finished.out)
    for objective, child in children.items():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == "FINISHED"
        history = client.get_metric_history(child.info.run_id, "micro/length_tokens")
        expected = [float(row["micro/length_tokens"]) for row in rows if row["objective"] == objective]
        assert [point.step for point in sorted(history, key=lambda point: point.step)] == [0, 1, 2]
        assert [point.value for point in sorted(history, key=lambda point: point.step)] == pytest.approx(expected)
        steps = [point.step for point in client.get_metric_history(child.info.run_id, "train/loss")]
        assert sorted(steps) == list(range(1, len(steps) + 1))
        assert len(child.inputs.dataset_inputs) == 2
    assert children["aipo"].data.params["lambda"] == "0.2"


def test_status_and_report_work_from_the_folder_alone(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    status = CliRunner().invoke(main, ["status", str(finished.out)])
    assert status.exit_code == 0, status.output
    for name in ("dpo-b0.1", "simpo-b2-g0.5", "aipo-b0.1-a0.05-l0.2"):
        assert re.search(rf"{re.escape(name)} .*complete .*2/2", status.output)
    total = sum(stage_runs(finished.store).values())
    assert f"{total} of {total} stages stored" in status.output
    report = finished.out / "report.html"
    copy = finished.folder / "copy"
    shutil.copytree(finished.out, copy, dirs_exist_ok=True)
    (copy / "results.csv").unlink()
    (copy / "report.html").unlink()
    shutil.rmtree(copy / "figures")
    result = CliRunner().invoke(main, ["report", str(copy)])
    assert result.exit_code == 0, result.output
    assert (copy / "results.csv").read_bytes() == finished.results
    names = [sorted(path.name for path in (out / "figures").iterdir()) for out in (finished.out, copy)]
    assert names[0] == names[1]
    assert "aipo-b0.1-a0.05-l0.2" in (copy / "report.html").read_text()
    assert report.is_file()


def test_a_trial_that_diverges_fails_with_its_reason_and_the_others_finish(finished: Finished, tmp_path: Path) -> None:
    space = [{"objective": "dpo", "train.learning_rate": [0.002, 1e30]}, {"objective": "simpo", "gamma": [1.0]}]
    file, out = write_sweep(tmp_path, space, "nan"), tmp_path / "out"
    done = run(command(file, out, finished.store), tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    states: dict[str, list[str]] = {}
    for row in read_rows(out):
        states.setdefault(row["trial"], []).append(row["state"])
        assert bool(row["micro/quality"]) == (row["state"] == "complete")
    (bad,) = [name for name in states if "1e" in name and "30" in name]
    assert states.pop(bad) == ["complete", "failed", "failed"]  # iteration 0 is the base model's
    assert list(states.values()) == [["complete"] * 3] * 2
    reason = next(line for line in done.stdout.splitlines() if line.startswith(f"failed {bad}"))
    assert "train failed" in reason
    assert "lower train.learning_rate" in reason
    assert "2 of 3 trials complete, 1 failed" in done.stdout
    assert bad in (out / "report.html").read_text()
    status = CliRunner().invoke(main, ["status", str(out)])
    assert status.exit_code == 1
    assert "lower train.learning_rate" in status.output
    again = run(command(file, out, finished.store), tmp_path)
    assert again.returncode == 1  # failing is not forgotten, nor hidden by what is stored


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_says_how_to_resume_and_ends_the_same(
    finished: Finished, tmp_path: Path, sign: signal.Signals
) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    if sign == signal.SIGTERM:  # start from the base model: up to there both signals find the same
        shutil.copytree(finished.store / "base", store / "base")
    arguments = command(finished.file, out, store)
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_for(lambda: any(store.glob("train/*/manifest.json")), process)
        process.send_signal(sign)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "Resume with:" in output
    assert " ".join(["aipo-lab", *arguments[1:]]) in output
    assert "Traceback" not in output
    assert 0 < sum(stage_runs(store).values()) < planned(finished.plan)["all"][1]
    assert {row["state"] for row in read_rows(out)} >= {"pending"}
    status = CliRunner().invoke(main, ["status", str(out)])
    assert status.exit_code == 0, status.output
    assert "pending" in status.output
    if sign == signal.SIGTERM:
        return  # that resuming ends the same needs to be seen only once
    done = run(arguments, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "results.csv").read_bytes() == finished.results


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the sweep ended before the moment came"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_sweep_killed_at_random_moments_ends_with_the_same_results(finished: Finished, tmp_path: Path) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    arguments = command(finished.file, out, store)
    most = planned(finished.plan)["all"][1] - 8
    for published in sorted(random.sample(range(most), 3)):
        process = subprocess.Popen(
            arguments, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda least=published: sum(stage_runs(store).values()) >= least, process)
            time.sleep(random.uniform(0, 0.1))
        finally:
            process.kill()
            process.wait(timeout=30)
    done = run(arguments, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "results.csv").read_bytes() == finished.results
    # work folders of killed stages are gone: their stages were continued and published
    assert not list(store.glob("*/.work-*"))
    assert sum(stage_runs(store).values()) == planned(finished.plan)["all"][1]


def test_two_sweeps_at_once_on_one_store_share_the_work(finished: Finished, tmp_path: Path) -> None:
    store = tmp_path / "store"
    outs = [tmp_path / "one", tmp_path / "two"]
    processes = [
        subprocess.Popen(
            command(finished.file, out, store), cwd=tmp_path, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for out in outs
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all((out / "results.csv").read_bytes() == finished.results for out in outs)


def test_run_executes_one_trial_and_its_status_can_be_seen(finished: Finished, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    values: dict[str, Any] = {}
    for dotted, value in RECIPE.items():
        *sections, last = dotted.split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    recipe.write_text(yaml.safe_dump(values))
    arguments = [AIPO_LAB, "run", str(recipe), "--set", "objective.name=aipo", "--set", "objective.lambda=0.2"]
    done = run([*arguments, "--set", "iterations=1", "--store", str(finished.store)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "runs" / "mine-aipo"
    rows = read_rows(out)
    assert [(row["trial"], row["objective"], row["lambda"]) for row in rows] == [("aipo", "aipo", "0.2")] * 2
    swept = [row for row in read_rows(finished.out) if row["objective"] == "aipo"]
    # the same recipe as a trial of the sweep, so the same numbers
    assert [row["micro/quality"] for row in rows] == [row["micro/quality"] for row in swept[:2]]
    status = subprocess.run([AIPO_LAB, "status"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert status.returncode == 0
    assert re.search("aipo .*complete .*1/1", status.stdout)
