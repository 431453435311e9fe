"""The time left of a sweep: by devices and workers, in a plan and while it runs, which say the same."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode
from aipo_lab.stages.devices import demand_of
from aipo_lab.sweeps.plan import SweepGraph, build_graph
from aipo_lab.sweeps.remaining import TimeEstimate, estimate_duration_s
from aipo_lab.sweeps.sweep import load_sweep

SECONDS = {"train": 10.0, "answer": 4.0, "judge": 100.0}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the estimates take for the time."""
    made = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr("aipo_lab.sweeps.remaining.time", SimpleNamespace(monotonic=lambda: made.now_s))
    return made


def two_trials(tmp_path: Path, **compute: object) -> SweepGraph:
    """One iteration of two trials that share all but their last three stages: training, answers, judging."""
    recipe = {"iterations": 1} | {f"compute.{name}": value for name, value in compute.items()}
    path = tmp_path / "two.yaml"
    path.write_text(
        yaml.safe_dump({"name": "two", "recipe": recipe, "space": [{"objective": "dpo", "beta": [0.1, 0.5]}]})
    )
    return build_graph(load_sweep(path))


def last_stages(graph: SweepGraph) -> list[list[StageNode]]:
    """Of both trials."""
    made = []
    for trial in graph.trials.values():
        before, after = trial.iterations
        made.append([before.steps["train"], after.answers["micro"], after.scores["micro"]])
    return made


def estimate_of(graph: SweepGraph, store: Store, workers: int) -> TimeEstimate:
    """An estimate when everything but those stages is made."""
    left = {node.reference for nodes in last_stages(graph) for node in nodes}
    estimate = TimeEstimate(graph, store, workers, set(graph.nodes) - left)
    for nodes in last_stages(graph):
        for node in nodes:
            estimate.means_of(node.stage).add(SECONDS[node.stage])
    return estimate


@pytest.mark.usefixtures("clock")
def test_stages_on_several_devices_take_turns_and_judging_keeps_none_idle(tmp_path: Path, store: Store) -> None:
    graph = two_trials(tmp_path, devices=["a", "b"], processes=2)
    train, answer, judge = last_stages(graph)[0]
    assert [demand_of(node).n_devices for node in (train, answer, judge)] == [2, 2, 0]
    # the trainings take turns, 0-10 and (after the answers of the first, 10-14) 14-24; answers 24-28, judging 28-128
    assert estimate_of(graph, store, workers=2).left_s() == 128
    # one asks judges at a time: 14-114, 114-214; both devices are idle meanwhile
    assert estimate_of(graph, store, workers=1).left_s() == 214


def test_what_runs_keeps_its_devices_though_others_come_before_it(
    tmp_path: Path, store: Store, clock: SimpleNamespace
) -> None:
    graph = two_trials(tmp_path, devices=["a", "b"], processes=2)
    estimate = estimate_of(graph, store, workers=1)
    estimate.started(last_stages(graph)[1][0])
    clock.now_s = 5.0
    # that training until 5, the first trial's until 15, its answers until 19, then judging
    assert estimate.left_s() == 219


@pytest.mark.usefixtures("clock")
def test_without_devices_every_stage_takes_a_worker(tmp_path: Path, store: Store) -> None:
    graph = two_trials(tmp_path)
    assert estimate_of(graph, store, workers=1).left_s() == 2 * sum(SECONDS.values())
    assert estimate_of(graph, store, workers=2).left_s() == sum(SECONDS.values())
    assert estimate_of(graph, store, workers=8).left_s() == sum(SECONDS.values())  # as a trial's stages wait


def test_it_counts_down_and_what_runs_too_long_delays_the_rest(
    tmp_path: Path, store: Store, clock: SimpleNamespace
) -> None:
    graph = two_trials(tmp_path)
    estimate = estimate_of(graph, store, workers=1)
    (train, answer, judge), (other, *_) = last_stages(graph)
    estimate.started(train)
    assert estimate.left_s() == 228
    clock.now_s = 0.75  # between two schedules
    assert estimate.left_s() == 227.25
    clock.now_s = 6.0
    assert estimate.left_s() == 222
    clock.now_s = 60.0
    assert estimate.left_s() == 218
    estimate.stopped(train)  # its input was damaged: it starts anew
    clock.now_s = 70.0
    assert estimate.left_s() == 228
    estimate.started(train)
    clock.now_s = 80.0
    estimate.finished(train, 10.0)
    estimate.failed(other)  # and with it its answers and their judging
    clock.now_s = 90.0
    assert estimate.left_s() == 104
    for node in (answer, judge):
        estimate.finished(node, 1.0)
    clock.now_s = 100.0
    assert estimate.left_s() == 0


def test_a_plan_says_what_the_display_says_when_the_sweep_starts(tmp_path: Path, store: Store) -> None:
    graph = two_trials(tmp_path, devices=["a", "b", "c"], processes=2)
    for node in graph.nodes.values():
        if node not in last_stages(graph)[1]:
            manifest = store.make(node.request, lambda _: {}).path / "manifest.json"
            manifest.write_text(
                json.dumps({**json.loads(manifest.read_text()), "duration_s": SECONDS.get(node.stage, 1.0)})
            )
    # the base model is answered for and judged as well, so that is what is known of these stages
    assert estimate_duration_s(graph, store, 3) == sum(SECONDS.values())
    assert TimeEstimate(graph, store, 3).left_s() == sum(SECONDS.values())
