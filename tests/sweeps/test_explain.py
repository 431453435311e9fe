"""Why a stage would be computed, where two trials part, and what a row was made from."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_store import content_of, make_up

from aipo_lab.console.why_view import show_why
from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.sweeps.differences import identity_of
from aipo_lab.sweeps.explain import Explainer, first_parting
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.lineage import find_lineage
from aipo_lab.sweeps.plan import SweepGraph, build_graph
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.sweep import load_sweep

SWEEP = """
name: two
recipe: {iterations: 2}
space:
  - {objective: dpo, beta: [0.1, 0.2]}
"""
FIRST, SECOND = "dpo-b0.1", "dpo-b0.2"


def graph_of(folder: Path, *overrides: tuple[str, Any], text: str = SWEEP) -> SweepGraph:
    (folder / "two.yaml").write_text(text)
    return build_graph(load_sweep(folder / "two.yaml", None, overrides))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with all of the sweep."""
    store = Store(tmp_path / "store")
    make_up(store, graph_of(tmp_path).nodes.values())
    return store


def explainer_of(graph: SweepGraph, store: Store) -> Explainer:
    return Explainer(graph.trials, store)


def test_what_is_stored_would_not_be_computed(tmp_path: Path, store: Store) -> None:
    explainer = explainer_of(graph_of(tmp_path), store)
    assert explainer.missing() == []
    assert {explainer.explain(node).state for node in explainer.nodes.values()} == {"stored"}


def test_the_changed_field_is_named_with_both_values_and_everything_else_follows(tmp_path: Path, store: Store) -> None:
    explainer = explainer_of(graph_of(tmp_path, ("instruct.n_prompts", 32)), store)
    (reason,) = explainer.own_reasons()
    assert (reason.node.stage, reason.state) == ("instruct", "changed")
    assert "n_prompts is 32 instead of 256" in reason.text
    assert reason.relative is not None
    assert reason.relative.key in reason.text
    others = [explainer.explain(node) for node in explainer.missing() if node is not reason.node]
    assert others
    assert all(one.state == "follows" and one.roots == (reason.node,) for one in others)


def test_the_nearest_relative_is_the_one_with_fewest_differences(tmp_path: Path, store: Store) -> None:
    text = SWEEP.replace("[0.1, 0.2]", "[0.1, 0.4]").replace("iterations: 2", "iterations: 2, train.epochs: 1")
    (reason, *more) = explainer_of(graph_of(tmp_path, text=text), store).own_reasons()
    assert more == []
    assert reason.node.stage == "train"
    assert "beta is 0.4 instead of 0." in reason.text
    assert len(reason.relative.differences.texts()) == 1 if reason.relative else False


def test_an_empty_store_has_nothing_yet(tmp_path: Path) -> None:
    (reason,) = explainer_of(graph_of(tmp_path), Store(tmp_path / "empty")).own_reasons()
    assert (reason.node.stage, reason.state) == ("base", "new")


def test_a_raised_version_is_told_as_such(tmp_path: Path) -> None:
    graph, store = graph_of(tmp_path), Store(tmp_path / "older")
    for node in graph.nodes.values():
        older = node.request if node.stage in ("base", "answer") else None
        if node.stage == "instruct":
            older = replace(node.request, version=node.request.version - 1)
        if older is not None and not any(one.startswith("train") for one in older.inputs.values()):
            store.make(older, content_of(node))
    reasons = {one.node.stage: one for one in explainer_of(graph, store).own_reasons()}
    assert reasons["instruct"].state == "version"
    assert "has changed (version" in reasons["instruct"].text


def test_damage_is_told_with_the_place(tmp_path: Path, store: Store) -> None:
    graph = graph_of(tmp_path)
    node = graph.trials[FIRST].iterations[1].policy
    curve = store.path("train", node.key) / "curve.jsonl"
    curve.write_text(curve.read_text()[:-3])
    explainer = explainer_of(graph, Store(store.root))
    reason = explainer.explain(node)
    assert reason.state == "damaged"
    assert str(store.path("train", node.key)) in reason.text
    aside = store.set_aside("train", node.key)
    assert str(aside) in explainer_of(graph, Store(store.root)).explain(node).text


def test_a_stage_of_a_trial_is_found_by_the_start_of_its_key(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = graph_of(tmp_path, ("train.batch_size", 8))
    node = graph.trials[SECOND].iterations[1].policy
    show_why(f"train/{node.key[:6]}", graph.trials, store, as_json=True)
    (said,) = json.loads(capsys.readouterr().out)["stages"]
    assert said["stage"] == node.reference
    assert said["changes"] == [{"name": "batch_size", "here": 8, "there": 32}]
    for wrong, words in (("trian", "did you mean 'train'"), ("train/ab", "at least 4"), (f"{FIRST}@9", "iterations 0")):
        with pytest.raises(UserError, match=words):
            show_why(wrong, graph.trials, store, as_json=False)


def test_an_iteration_is_explained_without_the_later_ones(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    show_why(f"{FIRST}@0", graph_of(tmp_path).trials, store, as_json=True)
    stages = [one["stage"].split("/")[0] for one in json.loads(capsys.readouterr().out)["stages"]]
    assert "base" in stages
    assert "train" not in stages or stages.count("train") == 1


def test_two_trials_part_at_the_first_training(tmp_path: Path) -> None:
    graph = graph_of(tmp_path)
    parting = first_parting(graph.trials[FIRST], graph.trials[SECOND])
    assert parting is not None
    assert parting[:2] == ("train", 0)
    assert first_parting(graph.trials[FIRST], graph.trials[FIRST]) is None


def test_a_trial_with_more_iterations_parts_at_its_next_one(tmp_path: Path) -> None:
    short, longer = graph_of(tmp_path), graph_of(tmp_path, ("iterations", 3))
    parting = first_parting(short.trials[FIRST], longer.trials[FIRST])
    assert parting is not None
    assert parting[1] == 2
    assert parting[2] is None
    assert parting[3] is not None


def saved_sweep(folder: Path, store: Store) -> SweepFolder:
    study = Study.open(load_sweep(folder / "two.yaml"), store, folder / "out", folder)
    study.write_results()
    return study.folder


def test_a_row_of_results_leads_to_all_it_was_made_from(tmp_path: Path, store: Store) -> None:
    folder = saved_sweep(tmp_path, store)
    lines = folder.results.read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.startswith(f"{SECOND},") and ",2,complete," in line)
    lineage = find_lineage(f"{folder.results}:{number}", None, None)
    assert (lineage.row.trial, lineage.row.iteration) == (SECOND, 2)
    stages = [one.reference.split("/")[0] for one in lineage.ancestors]
    assert stages[0] == "base"
    assert stages.count("train") == 2
    assert stages[-1] == "judge"
    assert all(one.manifest is not None for one in lineage.ancestors)
    named_inputs = {reference for one in lineage.ancestors for reference in one.inputs.values()}
    assert {one.reference for one in lineage.ancestors} >= named_inputs
    named = find_lineage(f"{SECOND}@2", folder.path, None)
    assert named.ancestors == lineage.ancestors
    assert json.loads(json.dumps(lineage.values()))["checkpoint"] == lineage.point.checkpoint


@pytest.mark.parametrize("line", ["1", "0", "99"])
def test_a_line_that_is_no_row_is_refused(tmp_path: Path, store: Store, line: str) -> None:
    folder = saved_sweep(tmp_path, store)
    with pytest.raises(UserError, match="lines 2 to 7"):
        find_lineage(f"{folder.results}:{line}", None, None)


def publish_bare(store: Store, graph: SweepGraph) -> None:
    """Manifests without files and without waiting for the disk, as `make` would for each."""
    for node in graph.nodes.values():
        folder = store.path(node.stage, node.key)
        folder.mkdir(parents=True)
        made = {**identity_of(node.request), "stage": node.stage, "key": node.key, "created_at": "2026-01-01T00:00:00"}
        (folder / "manifest.json").write_text(json.dumps({**made, "files": {}, "summary": {}, "duration_s": 1.0}))


@pytest.mark.slow
def test_among_ten_thousand_stored_stages_it_takes_less_than_a_second(tmp_path: Path) -> None:
    betas = ", ".join(f"0.{number:03}" for number in range(100, 170))
    text = SWEEP.replace("0.1, 0.2", betas).replace("iterations: 2", "iterations: 20")
    graph, store = graph_of(tmp_path, text=text), Store(tmp_path / "large")
    assert len(graph.nodes) > 10_000
    publish_bare(store, graph)
    changed = graph_of(tmp_path, ("train.batch_size", 8), text=text)
    started = time.monotonic()
    reasons = Explainer({"dpo-b0.123": changed.trials["dpo-b0.123"]}, Store(store.root)).own_reasons()
    assert time.monotonic() - started < 1
    assert [one.node.stage for one in reasons] == ["train"]
