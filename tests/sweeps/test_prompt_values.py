"""Values by prompt: they are those the scores were made of, survive in a cache, and their lack is said."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_sweep import write_sweep

from aipo_lab.benchmarks.length_control import length_controlled_values, length_controlled_win_rate
from aipo_lab.core.jsonl import read_json, write_jsonl
from aipo_lab.core.store import Store
from aipo_lab.results.per_prompt import prompt_values
from aipo_lab.stages.definition import StageNode, run_stage
from aipo_lab.sweeps.plan import SweepGraph, build_graph
from aipo_lab.sweeps.prompt_values import FILE, load_prompt_values
from aipo_lab.sweeps.sweep import load_sweep
from aipo_lab.worlds.world import get_world


def judged_store(root: Path, graph: SweepGraph) -> Store:
    """A store with made-up answers to all benchmarks, really judged; nothing is trained."""
    store = Store(root)
    nodes = graph.nodes.values()
    for node in nodes:
        if node.stage == "answer":
            store.make(node.request, lambda folder, node=node: _answer(folder, node))
    for node in nodes:
        if node.stage == "judge":
            run_stage(node, store, lambda *_: None)
    return store


def _answer(folder: Path, node: StageNode) -> dict[str, int]:
    rng = random.Random(node.key)
    n = node.request.config["n_prompts"]
    rows = []
    for i, prompt in enumerate(get_world("micro", 0).benchmark_prompts(n)):
        text = " ".join(rng.choice(["the food of the cat is red .", "yes .", "many people say ."]) for _ in range(9))
        cut = rng.random() < 0.3
        rows.append({"id": f"{i:06d}", "prompt": prompt, "text": text, "tokens": rng.randint(5, 60),
                     "finish_reason": "length" if cut else "stop"})  # fmt: skip
    write_jsonl(folder / "answers.jsonl", rows)
    return {}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepGraph, Path]:
    folder = tmp_path_factory.mktemp("values")
    graph = build_graph(load_sweep(write_sweep(folder)))
    judged_store(folder / "store", graph)
    return graph, folder / "store"


def test_the_mean_over_prompts_is_every_reported_score(study: tuple[SweepGraph, Path]) -> None:
    graph, root = study
    store = Store(root)
    values = load_prompt_values(graph, store)
    assert not values.missing
    for trial, trial_graph in graph.trials.items():
        for iteration in trial_graph.iterations:
            node = iteration.scores["micro"]
            scores = read_json(store.get(node.stage, node.key).file("scores.json"))
            for name, score in scores.items():
                found = values.of(trial, iteration.t, f"micro/{name}")
                assert found is not None and found.values.shape == (1, 16), name
                assert found.values.mean() == pytest.approx(score["value"], rel=1e-6), name
    assert values.of("dpo-b0.1", 1, "micro/nothing") is None and values.of("dpo-b0.1", 9, "micro/quality") is None


def test_common_values_are_of_the_same_prompts() -> None:
    values = prompt_values(
        {
            ("a", 1): {"micro/quality": {"x": 1.0, "y": 2.0, "z": 3.0}},
            ("b", 1): {"micro/quality": {"z": 30.0, "x": 10.0}, "micro/win_rate": {"x": 0.0, "z": 100.0}},
        }
    )
    common = values.common([("a", 1), ("b", 1)], "micro/quality")
    assert common is not None and common.ids == ("x", "z")
    assert common.values.tolist() == [[1.0, 3.0], [10.0, 30.0]]
    assert values.common([("a", 1), ("b", 1)], "micro/win_rate") is None
    assert values.common([("a", 1), ("c", 1)], "micro/quality") is None


def test_the_cache_has_the_same_values_and_a_damaged_one_is_made_again(
    study: tuple[SweepGraph, Path], tmp_path: Path
) -> None:
    graph, root = study
    cache = tmp_path / FILE
    first = load_prompt_values(graph, Store(root), cache)
    gone = Store(tmp_path / "no store")
    again = load_prompt_values(graph, gone, cache)
    for metric in ("micro/judged_win_rate", "micro/lc_win_rate", "micro/length_tokens"):
        points = [("dpo-b0.1", 0), ("simpo-b2-g0.5", 2)]
        one, other = first.common(points, metric), again.common(points, metric)
        assert one is not None and other is not None and one.ids == other.ids
        np.testing.assert_array_equal(one.values, other.values)
    for content in (b"", b"no archive", cache.read_bytes()[:-40]):
        cache.write_bytes(content)
        assert load_prompt_values(graph, Store(root), cache).of("dpo-b0.1", 1, "micro/quality") is not None
        assert len(cache.read_bytes()) > 500


def test_what_the_store_lost_is_said_and_what_is_still_to_come_is_not(
    study: tuple[SweepGraph, Path], tmp_path: Path
) -> None:
    graph, root = study
    shutil.copytree(root, tmp_path / "store")
    store = Store(tmp_path / "store")
    lost = graph.trials["dpo-b0.1"].iterations[1].scores["micro"]
    shutil.rmtree(store.path(lost.stage, lost.key))
    last = graph.trials["simpo-b2-g0.5"].iterations[2].scores["micro"]
    shutil.rmtree(store.path(last.stage, last.key))
    values = load_prompt_values(graph, store)
    assert values.missing == (("dpo-b0.1", 1),)
    assert "no longer" in values.missing_text() and "dpo-b0.1@1" in values.missing_text()
    assert values.of("dpo-b0.1", 1, "micro/quality") is None and values.of("dpo-b0.1", 2, "micro/quality") is not None


def test_length_controlled_values_have_the_rate_as_mean_and_its_error_as_spread() -> None:
    rng = np.random.default_rng(1)
    preferences, ours, theirs = rng.integers(0, 3, 300) / 2, rng.integers(5, 90, 300), rng.integers(5, 40, 300)
    rate = length_controlled_win_rate(preferences, ours, theirs)
    values = length_controlled_values(preferences, ours, theirs)
    assert values.mean() == pytest.approx(rate.value)
    assert values.std(ddof=1) / np.sqrt(300) == pytest.approx(rate.se, rel=0.01)


def test_two_hundred_trials_of_twenty_iterations_load_in_a_second(tmp_path: Path) -> None:
    from aipo_lab.results.per_prompt import PointValues
    from aipo_lab.sweeps.prompt_values import _read_cache, _write_cache

    ids = tuple(f"{i:06d}" for i in range(200))
    metrics = ("win_rate", "judged_win_rate", "quality", "length_tokens", "length_chars", "truncated", "lc_win_rate")
    rng = np.random.default_rng(0)
    block = rng.integers(0, 3, (4000, len(metrics), 200)) * 50.0
    points = {f"judge/{n}": PointValues(ids, dict(zip(metrics, block[n], strict=True))) for n in range(4000)}
    _write_cache(tmp_path / FILE, points)
    started_s = time.process_time()
    read = _read_cache(tmp_path / FILE)
    assert time.process_time() - started_s < 2.0
    assert len(read) == 4000 and read["judge/7"].columns["quality"].tolist() == block[7][2].tolist()
