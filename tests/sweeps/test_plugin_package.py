"""The package of docs/extending.md in a sweep: all it adds is used, and an edit recomputes what used it, no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from example_package import write_example_package

from aipo_lab.core.jsonl import read_json, read_jsonl

SWEEP = {
    "name": "plugins",
    "recipe": {
        "iterations": 1,
        "model.micro.steps": 40,
        "model.micro.batch_size": 32,
        "model.micro.documents_per_step": 2,
        "model.micro.hidden_size": 48,
        "model.micro.layers": 1,
        "model.micro.mlp_size": 96,
        "engine": {"name": "talkative"},
        "prompts": {"source": "first", "n": 30},
        "instruct": {"source": "pool", "n_prompts": 20},
        "respond.n_candidates": 3,
        "respond.sampling.max_new_tokens": 24,
        "rank": {"ranker": "shortest", "price": 0.5},
        "train.batch_size": 5,
        "benchmarks.micro.n_prompts": 10,
        "benchmarks.micro.sampling.max_new_tokens": 24,
        "benchmarks.brevity": {"limit": 8},
    },
    "space": [{"objective": "half_dpo", "beta": [0.2]}, {"objective": "dpo", "beta": [0.2]}],
    "select": "max:brevity/brief",
}
LEFT_TO_RUN = """
import json, sys
from pathlib import Path
from aipo_lab.core.store import Store
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.sweep import load_sweep
store = Store(Path("store"))
nodes = build_graph(load_sweep(Path("plugins.yaml"))).nodes.values()
print(json.dumps([node.stage for node in nodes if not store.contains(node.stage, node.key)]))
"""
BEHIND_RANK = {"rank": 1, "pair": 1, "reference": 1, "train": 2, "answer": 2, "answer_official": 2} | {
    "judge": 2,
    "judge_official": 2,
}


@dataclass(frozen=True)
class Lab:
    """A folder with the sweep and the package, and the sweep's output folder."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(self.folder / "package"), *sys.path]),
        }
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=240)

    def left_to_run(self) -> Counter[str]:
        done = self.call(sys.executable, "-c", LEFT_TO_RUN)
        assert done.returncode == 0, done.stderr
        return Counter(json.loads(done.stdout))

    def edit(self, module: str) -> None:
        path = self.folder / "package" / "lab_examples" / module
        path.write_text(path.read_text() + "# edited\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The sweep, run once with the example executor and tracker."""
    lab = Lab(tmp_path_factory.mktemp("plugins"))
    write_example_package(lab.folder / "package")
    (lab.folder / "plugins.yaml").write_text(yaml.safe_dump(SWEEP))
    aipo_lab = (sys.executable, "-m", "aipo_lab")
    options = ("--executor", "here", "--tracker", "lines", "--store", "store", "--out", "out")
    done = lab.call(*aipo_lab, "sweep", "plugins.yaml", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return lab


@pytest.fixture
def lab(finished: Lab) -> Lab:
    """The finished sweep, with the package as it was when it ran."""
    for path in (finished.folder / "package" / "lab_examples").glob("*.py"):
        path.write_text(path.read_text().removesuffix("# edited\n"))
    assert finished.left_to_run() == {}
    return finished


def test_everything_the_package_adds_took_part(finished: Lab) -> None:
    (tracked, _) = read_jsonl(finished.out / "tracked.jsonl")
    assert tracked == {"trial": "half_dpo-b0.2", "state": "complete"}
    assert not (finished.out / "mlflow.db").exists()
    header, *rows = (finished.out / "results.csv").read_text().splitlines()
    assert "brevity/brief" in header
    assert len(rows) == 4
    store = finished.folder / "store"
    (ranking,) = store.glob("rank/*/ranking.jsonl")
    for row in read_jsonl(ranking):
        assert row["scores"] == [-0.5 * response["tokens"] for response in row["responses"]]
    (prompts,) = store.glob("instruct/*/manifest.json")
    assert read_json(prompts)["config"]["prompts"] == {"source": "first", "n": 30}


def test_plugins_stand_in_manifests_and_in_the_saved_sweep(finished: Lab) -> None:
    (manifest,) = (finished.folder / "store").glob("rank/*/manifest.json")
    identity = read_json(manifest)["plugins"]["ranker"]
    assert identity["distribution"] == "lab-examples 1.0"
    saved = yaml.safe_load((finished.out / "sweep.yaml").read_text())
    assert saved["plugins"]["ranker"] == identity
    assert set(saved["plugins"]) == {"engine", "prompts", "ranker", "objective", "benchmark"}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("ranker.py", BEHIND_RANK),
        ("objective.py", {"train": 1, "answer": 1, "judge": 1, "answer_official": 1, "judge_official": 1}),
        ("benchmark.py", {"answer_official": 3, "judge_official": 3}),
        ("engine.py", {**BEHIND_RANK, "instruct": 1, "respond": 1, "answer": 4, "judge": 4, "answer_official": 3}),
        ("prompts.py", {**BEHIND_RANK, "instruct": 1, "respond": 1}),
        ("executor.py", {}),
        ("tracker.py", {}),
        ("world.py", {}),
    ],
)
def test_an_edit_recomputes_what_used_it_and_no_more(lab: Lab, module: str, expected: dict[str, int]) -> None:
    lab.edit(module)
    if module == "engine.py":
        expected = {**expected, "judge_official": 3}
    assert lab.left_to_run() == expected


def test_the_example_world_is_a_world(finished: Lab) -> None:
    code = (
        "from aipo_lab.worlds.world import get_world; w = get_world('sums', 3); p = w.pool(1)[0];"
        "assert w.is_instruction(p) and not set(w.pool()) & set(w.benchmark_prompts()); print(w.quality(p, 'It is 0.'))"
    )
    assert finished.call(sys.executable, "-c", code).stdout.strip() == "1.0"


def test_the_listing_names_every_plugin_with_its_package(finished: Lab) -> None:
    done = finished.call(sys.executable, "-m", "aipo_lab", "plugins")
    assert done.returncode == 0, done.stderr
    names = ("half_dpo", "talkative", "shortest", "first", "brevity", "sums", "here", "lines")
    for name in names:
        (line,) = [line for line in done.stdout.splitlines() if f" {name} " in line and "lab-examples" in line]
        assert "lab-examples 1.0" in line


def test_a_broken_plugin_is_named_by_plugins_and_doctor(lab: Lab) -> None:
    path = lab.folder / "package" / "lab_examples" / "ranker.py"
    whole = path.read_text()
    path.write_text("import no_such_package\n")
    try:
        for command in ("plugins", "doctor"):
            done = lab.call(sys.executable, "-m", "aipo_lab", command)
            assert done.returncode == 1
            assert "lab-examples 1.0" in done.stdout
            assert "no_such_package" in done.stdout
        refused = lab.call(sys.executable, "-m", "aipo_lab", "plan", "plugins.yaml")
        assert refused.returncode == 2
        assert "lab-examples 1.0 offers it as lab_examples.ranker, which cannot be loaded" in refused.stderr
    finally:
        path.write_text(whole)
