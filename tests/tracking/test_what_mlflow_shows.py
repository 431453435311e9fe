"""What MLflow shows of a finished sweep that `track` logs: headline, each trial's best, tables, times, the view."""

from __future__ import annotations

import base64
import json
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_store import make_up

from aipo_lab.console.track_view import track_sweep
from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.sweeps.study import Study, StudyListener
from aipo_lab.sweeps.sweep import load_sweep
from aipo_lab.tracking.addresses import own_uri
from aipo_lab.tracking.mlflow import EXPERIMENT
from aipo_lab.tracking.mlflow_view import VIEW_TAG
from aipo_lab.tracking.place import load_place

SPACE = [{"objective": "dpo", "beta": [0.1, 0.3]}, {"objective": "simpo", "beta": [2.0], "gamma": [0.5]}]


def no_executor() -> Any:
    raise AssertionError("everything is stored")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, new_database: tuple[Path, str]) -> Iterator[Path]:
    """A folder with a sweep that ran without a tracker and was then tracked, and its store."""
    patch = pytest.MonkeyPatch()
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path_factory.mktemp("tracked")
    values = {"name": "s", "recipe": {"iterations": 2}, "space": SPACE, "description": "A *small* sweep."}
    (folder / "s.yaml").write_text(yaml.safe_dump(values))
    study = Study.open(load_sweep(folder / "s.yaml"), Store(folder / "store"), folder / "out", folder / "runs")
    make_up(study.store, study.graph.nodes.values())
    study.run(no_executor, StudyListener())
    shutil.copy(new_database[0], folder / "out" / "mlflow.db")
    assert track_sweep(folder / "out", None, "mlflow", "aipo-lab")
    yield folder
    patch.undo()


class Logged:
    """The sweep of a folder as a second client sees it."""

    def __init__(self, out: Path) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(own_uri(out))
        self.experiment = self.client.get_experiment_by_name(EXPERIMENT)
        runs = self.client.search_runs([self.experiment.experiment_id])
        self.parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        self.trials = {r.data.tags["aipo_lab.trial_id"]: r for r in runs if "mlflow.parentRunId" in r.data.tags}
        self.n_children = len(runs) - len(self.parents)
        (self.parent,) = self.parents

    def artifact(self, run: Any, name: str) -> Any:
        return json.loads(Path(self.client.download_artifacts(run.info.run_id, name)).read_text())


def test_the_sweeps_run_says_what_came_out(tracked: Path) -> None:
    logged = Logged(tracked / "out")
    metrics, tags = logged.parent.data.metrics, logged.parent.data.tags
    assert (metrics["trials/total"], metrics["trials/complete"], metrics["trials/failed"]) == (3, 3, 0)
    assert {"best/micro/judged_win_rate", "best/micro/length_tokens", "hypervolume/micro"} <= set(metrics)
    assert tags["best_trial"] in logged.trials and tags["best_iteration"] in {"1", "2"}
    assert "A *small* sweep." in tags["mlflow.note.content"] and "aipo-lab track" in tags["mlflow.note.content"]
    assert len(tags["mlflow.source.git.commit"]) >= 40
    table = logged.artifact(logged.parent, "results.json")
    assert len(table["data"]) == 9 and {"trial", "iteration", "micro/win_rate"} <= set(table["columns"])
    assert len(logged.artifact(logged.parent, "best_trials.json")["data"]) == 3
    assert [one.dataset.name for one in logged.parent.inputs.dataset_inputs] == ["instruct_0"]


def test_a_trial_has_its_best_iteration_its_settings_and_its_times(tracked: Path) -> None:
    logged = Logged(tracked / "out")
    selected = {name: run.data.tags["selected"] for name, run in logged.trials.items()}
    assert sorted(selected.values()) in (["for its objective", "in the sweep", "no"], ["in the sweep", "no", "no"])
    assert selected[logged.parent.data.tags["best_trial"]] == "in the sweep"
    for run in logged.trials.values():
        best, name = run.data.metrics["best/iteration"], "micro/judged_win_rate"
        history = {m.step: m for m in logged.client.get_metric_history(run.info.run_id, name)}
        assert run.data.metrics[f"best/{name}"] == pytest.approx(history[int(best)].value, rel=1e-3)
        assert "train.learning_rate" in run.data.params and "model.source" in run.data.params
        stages = logged.artifact(run, "stages.json")
        times = [row[stages["columns"].index("started")] for row in stages["data"]]
        assert run.info.start_time <= run.info.end_time <= time.time() * 1000
        assert len(times) == len(stages["data"]) and all(moment.endswith("Z") for moment in times)
        assert "| 2 | `train/" in run.data.tags["mlflow.note.content"]
    assert {name[:3]: run.data.params["gamma"] for name, run in logged.trials.items()} == {"dpo": "-", "sim": "0.5"}


def test_errors_and_counts_have_names_of_their_own(tracked: Path) -> None:
    for run in Logged(tracked / "out").trials.values():
        names = set(run.data.metrics)
        assert {"se/micro/win_rate", "n/micro"} <= names
        assert not [name for name in names if name.endswith(("_se", "/n"))]


def test_the_view_shows_the_trials_with_their_results(tracked: Path) -> None:
    logged, place = Logged(tracked / "out"), load_place(tracked / "out")
    assert place is not None and f"viewStateShareKey={place.view}" in place.pages("http://host")[0]
    text = logged.experiment.tags[VIEW_TAG + place.view].removeprefix("deflate;")
    view = json.loads(zlib.decompress(base64.b64decode(text)))
    runs = logged.client.search_runs([logged.experiment.experiment_id], filter_string=view["searchFilter"])
    assert len(runs) == 3
    known = {f"metrics.`{name}`" for run in runs for name in run.data.metrics}
    known |= {f"params.`{name}`" for run in runs for name in run.data.params} | {"tags.`selected`"}
    assert set(view["selectedColumns"]) <= known and "metrics.`best/micro/length_tokens`" in view["selectedColumns"]
    charted = {chart[axis]["key"] for chart in view["compareRunCharts"] for axis in ("xaxis", "yaxis") if axis in chart}
    assert charted == {"best/micro/length_tokens", "best/micro/judged_win_rate"}
    drawn = {chart["metricKey"] for chart in view["compareRunCharts"] if chart["type"] in ("LINE", "BAR")}
    assert {"micro/judged_win_rate", "best/micro/judged_win_rate", "train/loss"} <= drawn
    assert {f"metrics.`{name}`" for name in drawn if not name.startswith("train/")} <= known


def test_logging_it_again_changes_nothing(tracked: Path) -> None:
    before = Logged(tracked / "out")
    assert track_sweep(tracked / "out", None, "mlflow", "aipo-lab")
    after = Logged(tracked / "out")
    assert {n: r.info.run_id for n, r in after.trials.items()} == {n: r.info.run_id for n, r in before.trials.items()}
    assert (len(after.parents), after.n_children) == (1, 3)
    run_id = next(iter(after.trials.values())).info.run_id
    assert len(after.client.get_metric_history(run_id, "best/iteration")) == 1
    assert len(after.artifact(after.parent, "results.json")["data"]) == 9


def test_a_sweep_whose_store_is_gone_is_logged_from_its_results_and_keeps_what_was_logged(
    tracked: Path, new_database: tuple[Path, str]
) -> None:
    before = Logged(tracked / "out")
    assert track_sweep(tracked / "out", tracked / "no store", "mlflow", "aipo-lab")
    after = Logged(tracked / "out")
    assert {r.info.run_id for r in after.trials.values()} == {r.info.run_id for r in before.trials.values()}
    shutil.copytree(tracked / "out", tracked / "copy", ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    shutil.copy(new_database[0], tracked / "copy" / "mlflow.db")
    assert track_sweep(tracked / "copy", tracked / "no store", "mlflow", "aipo-lab")
    alone = Logged(tracked / "copy")
    name = "micro/length_tokens"
    for trial, run in alone.trials.items():
        assert run.data.metrics[name] == pytest.approx(after.trials[trial].data.metrics[name], rel=1e-5)


def test_the_picked_model_is_registered_once_by_reference_or_with_its_files(tracked: Path) -> None:
    for model in (tracked / "store" / "train").iterdir():  # the made-up store has none
        (model / "model").mkdir()
        (model / "model" / "config.json").write_text("{}")
    for _ in range(2):
        assert track_sweep(tracked / "out", None, "mlflow", "aipo-lab", "tuned")
    logged = Logged(tracked / "out")
    (version,) = logged.client.search_model_versions("name = 'tuned'")
    run = logged.trials[logged.parent.data.tags["best_trial"]]
    assert version.run_id == run.info.run_id
    note = logged.artifact(run, "model/reference.json")
    assert (Path(note["folder"])).is_dir() and note["artifact"] == version.tags["checkpoint"]
    assert len(logged.client.list_artifacts(run.info.run_id, "model")) == 1
    assert track_sweep(tracked / "out", None, "mlflow", "aipo-lab", "tuned", upload_model=True)
    assert len(logged.client.search_model_versions("name = 'tuned'")) == 2
    files = {Path(item.path).name for item in logged.client.list_artifacts(run.info.run_id, "model")}
    assert files == {"reference.json", *(file.name for file in Path(note["folder"]).iterdir())}


def test_a_sweep_without_results_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"name": "s", "recipe": {"iterations": 1}, "space": SPACE}))
    Study.open(load_sweep(tmp_path / "s.yaml"), Store(tmp_path / "store"), tmp_path / "out", tmp_path / "runs")
    with pytest.raises(UserError, match="run the sweep first"):
        track_sweep(tmp_path / "out", None, "mlflow", "aipo-lab")
