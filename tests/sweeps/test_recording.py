"""Results of a running sweep: written off the scheduling thread, from what changed, and right at every moment."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_store import MakeUpExecutor, make_up

from aipo_lab.core.store import Artifact, Store
from aipo_lab.results.rows import ResultRow, ResultsWriter, read_results, write_results
from aipo_lab.sweeps.collect import sweep_rows
from aipo_lab.sweeps.study import Study, StudyListener
from aipo_lab.sweeps.sweep import load_sweep
from aipo_lab.tracking.tracker import Tracker, TrialRecord


class Remembers(Tracker):
    """Keeps the records, and on which thread they came; looks into them if told to."""

    def __init__(self, looks: bool = True) -> None:
        self.records: list[TrialRecord] = []
        self.digests: list[str] = []
        self.threads: set[str] = set()
        self.looks = looks

    def log_trial(self, record: TrialRecord) -> None:
        self.records.append(record)
        self.digests.append(record.digest)
        self.threads.add(threading.current_thread().name)
        if self.looks:
            list(record.curves), list(record.datasets)


class CountingStore(Store):
    """Counts how often each artifact is looked up."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.found: Counter[str] = Counter()

    def find(self, stage: str, key: str) -> Artifact | None:
        self.found[f"{stage}/{key}"] += 1
        return super().find(stage, key)


@pytest.fixture
def open_study(tmp_path: Path):
    """Opens a sweep of `n` trials of two iterations."""

    def make(n: int = 3, tracker: Tracker | None = None, store: Store | None = None, **more: Any) -> Study:
        space = [{"objective": "dpo", "beta": [round(0.1 + k / 100, 3) for k in range(n)]}]
        (tmp_path / "s.yaml").write_text(yaml.safe_dump({"name": "s", "recipe": {"iterations": 2}, "space": space}))
        sweep = load_sweep(tmp_path / "s.yaml")
        store = store or Store(tmp_path / "store")
        study = Study.open(sweep, store, tmp_path / "out", tmp_path / "runs")
        study.tracker = tracker or Tracker()
        return study

    return make


def test_a_run_writes_what_the_store_says_and_tells_the_tracker(open_study) -> None:
    tracker = Remembers()
    study = open_study(3, tracker)
    rows = study.run(lambda: MakeUpExecutor(study.store), StudyListener())
    assert rows == sweep_rows(study.sweep, study.graph, study.store, {})
    write_results(study.folder.path / "again.csv", rows)
    assert study.folder.results.read_bytes() == (study.folder.path / "again.csv").read_bytes()
    assert {row.state for row in rows} == {"complete"}
    assert [record.trial for record in tracker.records] == ["dpo-b0.1", "dpo-b0.11", "dpo-b0.12"]
    assert [point.step for point in tracker.records[0].curves] == [1, 2, 3, 4]
    assert len(tracker.records[0].datasets) == 2
    assert tracker.threads == {"recording"}


def test_a_failed_trial_keeps_its_reason_and_what_it_reached(open_study) -> None:
    tracker = Remembers()
    study = open_study(2, tracker)
    failing = study.graph.trials["dpo-b0.11"].iterations[1].steps["train"].reference
    rows = study.run(lambda: MakeUpExecutor(study.store, frozenset({failing})), StudyListener())
    states = [(row.trial, row.iteration, row.state) for row in rows]
    assert states[:3] == [("dpo-b0.1", t, "complete") for t in range(3)]
    assert states[3:] == [("dpo-b0.11", 0, "complete"), ("dpo-b0.11", 1, "complete"), ("dpo-b0.11", 2, "failed")]
    last = [record for record in tracker.records if record.trial == "dpo-b0.11"][-1]
    assert (last.state, "made to fail" in last.reason) == ("failed", True)
    assert [row.state for row in last.rows] == ["complete", "complete", "failed"]


def test_each_score_is_read_once_however_many_trials_end(open_study, tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "store")
    study = open_study(6, store=store)
    make_up(store, study.graph.nodes.values())
    store.found.clear()
    study.run(lambda: MakeUpExecutor(store), StudyListener())
    scores = {n.reference for t in study.graph.trials.values() for i in t.iterations for n in i.scores.values()}
    looked = {reference: store.found[reference] for reference in scores}
    assert looked == dict.fromkeys(scores, 2)  # once to see that it is there, once to read it


def test_what_is_logged_already_is_not_read_to_find_that_out(open_study, tmp_path: Path) -> None:
    first, again = Remembers(), Remembers(looks=False)
    study = open_study(3, first)
    study.run(lambda: MakeUpExecutor(study.store), StudyListener())
    store = CountingStore(tmp_path / "store")
    study = open_study(3, again, store)
    store.found.clear()
    study.run(lambda: MakeUpExecutor(store), StudyListener())
    assert sorted(again.digests) == sorted(first.digests)
    looked = {reference: n for reference, n in store.found.items() if reference.startswith(("train", "pair"))}
    assert looked == dict.fromkeys(looked, 1)  # to see that it is there


def test_the_digest_tells_settings_artifacts_and_reasons_apart(open_study) -> None:
    tracker = Remembers()
    study = open_study(2, tracker)
    failing = study.graph.trials["dpo-b0.11"].iterations[1].steps["train"].reference
    study.run(lambda: MakeUpExecutor(study.store, frozenset({failing})), StudyListener())
    study = open_study(2, tracker)
    study.run(lambda: MakeUpExecutor(study.store), StudyListener())
    by_trial = {
        name: {d for r, d in zip(tracker.records, tracker.digests, strict=True) if r.trial == name}
        for name in ("dpo-b0.1", "dpo-b0.11")
    }
    assert len(by_trial["dpo-b0.1"]) == 1
    assert len(by_trial["dpo-b0.11"]) == 2
    assert not by_trial["dpo-b0.1"] & by_trial["dpo-b0.11"]


def test_a_slow_tracker_does_not_hold_the_scheduler_up(open_study) -> None:
    class Slow(Tracker):
        def log_trial(self, record: TrialRecord) -> None:
            time.sleep(0.5)

    class Clock(StudyListener):
        ended_s = 0.0

        def trial_ended(self, trial: object, state: str, reason: str) -> None:
            self.ended_s = time.monotonic()

    study, clock = open_study(8, Slow()), Clock()
    started_s = time.monotonic()
    make_up(study.store, study.graph.nodes.values())
    made_s = time.monotonic()
    study.run(lambda: MakeUpExecutor(study.store), clock)
    assert started_s < made_s < clock.ended_s < made_s + 2.0  # 8 trials would take the tracker 4 s


def test_results_are_there_soon_after_a_trial_ends_not_only_at_the_end(open_study) -> None:
    class Looks(StudyListener):
        seen = 0

        def trial_ended(self, trial: object, state: str, reason: str) -> None:
            deadline_s = time.monotonic() + 20
            while self.seen == 0 and time.monotonic() < deadline_s:
                if study.folder.results.is_file():
                    self.seen = sum(row.state == "complete" for row in read_results(study.folder.results))
                time.sleep(0.05)

    study, listener = open_study(2), Looks()
    study.run(lambda: MakeUpExecutor(study.store), listener)
    assert listener.seen >= 3


def test_results_that_cannot_be_written_stop_no_work_and_are_told(open_study) -> None:
    study = open_study(2)
    study.folder.results.mkdir()  # a folder cannot be replaced by a file
    rows = study.run(lambda: MakeUpExecutor(study.store), StudyListener())
    assert {row.state for row in rows} == {"complete"}
    assert "results.csv" in study.unwritten["results.csv"]


def test_only_changed_groups_are_formatted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import aipo_lab.results.rows as module

    formatted: list[str] = []
    cells = module._cells
    monkeypatch.setattr(module, "_cells", lambda row, *more: formatted.append(row.trial) or cells(row, *more))
    rows = {name: [ResultRow(name, "dpo", {"beta": "1"}, 0, "complete", {"micro/n": 1.0})] for name in "abc"}
    writer = ResultsWriter(tmp_path / "r.csv")
    for name, group in rows.items():
        writer.update(name, group)
    writer.write()
    formatted.clear()
    writer.update("b", [ResultRow("b", "dpo", {"beta": "1"}, 0, "failed")])
    writer.write()
    assert formatted == ["b"]
    writer.update("c", [ResultRow("c", "dpo", {"beta": "1", "seed": "3"}, 0, "complete", {"micro/x": 2.0})])
    writer.write()
    write_results(tmp_path / "whole.csv", writer.rows())
    assert (tmp_path / "r.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert [row.trial for row in writer.rows()] == ["a", "b", "c"]
