"""GPU-hours, wall time, money and disk of a sweep for another machine; and what a finished run corrects."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from model_variants import make_variant

from aipo_lab.core.errors import UserError
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.sweeps.costs import CostEstimator, GpuPlace, ProcessorPlace, SweepCost, sweep_cost
from aipo_lab.sweeps.foreseen import foresee_graph
from aipo_lab.sweeps.plan import SweepGraph
from aipo_lab.sweeps.plan_judging import expected_cost, foreseen_cost, judging_costs, sum_costs
from aipo_lab.sweeps.sweep import load_plannable, load_sweep, single_run
from aipo_lab.sweeps.throughputs import throughputs

SWEEPS = Path(__file__).parents[2] / "sweeps"
NEMO = 12_247_782_400
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_here(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIPO_LAB_CACHE", str(tmp_path_factory.mktemp("empty")))
        yield


@pytest.fixture(scope="module")
def table6() -> SweepGraph:
    return foresee_graph(load_sweep(SWEEPS / "table6.yaml", "paper", check=True, elsewhere=True)).graph


def cost(graph: SweepGraph, store: Store, count: int = 8, kind: str = "h100") -> SweepCost:
    return sweep_cost(graph, store, GpuPlace(kind, count), set())


def by_stage(found: SweepCost) -> dict[str, Any]:
    return {one.stage: one for one in found.stages}


def test_table_6_at_the_papers_size(table6: SweepGraph, store: Store) -> None:
    found = cost(table6, store)
    stages = by_stage(found)
    # 20 trials x 15 iterations, iteration 0 shared up to the training; 4 trials (simpo) have no reference
    assert (stages["train"].runs, stages["respond"].runs, stages["reference"].runs) == (300, 281, 225)
    assert [stages[name].devices for name in ("instruct", "respond", "rank", "train")] == [8, 8, 1, 8]
    assert stages["reference"].devices == 8  # its policy, too, is divided
    assert found.disk.checkpoints == 300 * 2 * NEMO  # 7.3 TB in bfloat16
    assert stages["respond"].tokens == pytest.approx(281 * 20_000 * 5 * 405)
    assert stages["respond"].most_tokens == 281 * 20_000 * 5 * 2048
    assert stages["train"].tokens == pytest.approx(300 * 18_000 * (40 + 2 * 405))
    assert stages["train"].most_tokens == 300 * 20_000 * (512 + 2 * 2048)
    train_flop = 8 * NEMO * stages["train"].tokens  # 6, and 2 more for gradient checkpointing
    loading_s = 300 * 8 * 60
    assert stages["train"].device_s == pytest.approx(train_flop / (989e12 * 0.30) + loading_s)
    assert 1000 < found.device_s / 3600 < 4000
    assert found.device_s < found.most_device_s
    assert found.device_s / 8 < found.wall_s < found.most_wall_s


def test_what_is_not_here_is_listed_and_a_sweep_that_lacks_nothing_lists_nothing() -> None:
    sweep = load_sweep(SWEEPS / "table6.yaml", "paper", check=True, elsewhere=True)
    missing = "\n".join(foresee_graph(sweep).missing)
    for name in ("PairRM", "compute.device: cuda", "mistralai/Mistral-Nemo-Instruct-2407", "alpaca-eval", "mt-bench"):
        assert name in missing, name
    assert missing.count("compute.device: ") == 1
    assert foresee_graph(load_sweep(SWEEPS / "table6.yaml")).missing == []


def test_a_plan_asks_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")  # imported before the plan, as in a long-lived process
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    assert foresee_graph(single_run("paper")).missing
    assert asked == []


def test_judging_is_counted_without_the_data_files(table6: SweepGraph, store: Store) -> None:
    most = judging_costs(table6, store, foreseen_cost)
    expected = judging_costs(table6, store, expected_cost)
    n_models = 1 + 20 * 15
    calls = {"alpaca_eval": 805 * n_models, "arena_hard": 1000 * n_models, "mt_bench": 160 * n_models}
    assert {name: one.calls for name, one in most.items()} == calls
    assert {name: one.calls for name, one in expected.items()} == calls
    alpaca = most["alpaca_eval"]
    assert alpaca.usd == pytest.approx(alpaca.calls * ((3520 / 4 + 2048) * 10 + 30) / 1e6, rel=1e-3)
    expected_usd, most_usd = (sum_costs(costs.values()).usd or 0.0 for costs in (expected, most))
    assert 5_000 < expected_usd < most_usd < 100_000


def test_more_gpus_shorten_the_wall_time_until_iterations_wait_for_each_other(table6: SweepGraph, store: Store) -> None:
    costs = [cost(table6, store, count) for count in (8, 64, 512, 4096)]
    walls = [one.wall_s for one in costs]
    assert walls[0] > 5 * walls[1] > 5 * walls[2] >= 5 * walls[3]
    assert walls[2] == pytest.approx(walls[3], rel=0.01)  # 20 trials on 8 GPUs each cannot use more
    assert len({round(one.device_s) for one in costs}) == 1


def test_a_slower_gpu_takes_longer_and_what_does_not_fit_is_refused(table6: SweepGraph, store: Store) -> None:
    assert cost(table6, store, kind="a100").device_s > 1.5 * cost(table6, store).device_s
    with pytest.raises(UserError, match=r"--gpu 'h1000' is in no table; .*h100"):
        cost(table6, store, kind="h1000")
    with pytest.raises(UserError, match=r"train needs 8 GPUs at once, but --gpus says 4; .*compute.processes"):
        cost(table6, store, count=4)


def test_a_model_of_unknown_size_is_said_to_be_so(store: Store) -> None:
    graph = foresee_graph(single_run("paper", [("model.source", "some/model")])).graph
    with pytest.raises(UserError, match=r"size of model.source some/model is not known.*model.source=FOLDER"):
        cost(graph, store)


def test_every_figure_has_a_source_and_every_official_benchmark_its_calls() -> None:
    table = throughputs()
    figures = [*table.shares.values(), *table.lengths.values(), *table.yields.values(), *table.times.values()]
    assert all(one.source for one in [*figures, *table.gpus.values(), *table.judging.values()])
    assert table.judging.keys() == {"alpaca_eval", "arena_hard", "mt_bench"}


# ---- what a finished run corrects ----


def finished(store: Store, node: Any, summary: dict[str, Any], duration_s: float, device: str) -> None:
    """An artifact as another run of the node's stage, on the same model and 8 devices, would have left it."""
    request = node.request
    other = ArtifactRequest(request.stage, request.version, {**request.config, "pilot": True}, request.inputs)
    artifact = store.make(other, lambda folder: summary, computed_on={"device": device, "devices": 8})
    manifest = artifact.path / "manifest.json"
    manifest.write_text(json.dumps({**artifact.manifest, "duration_s": duration_s}))


def test_speeds_and_lengths_of_a_finished_run_replace_the_tables(store: Store) -> None:
    graph = foresee_graph(single_run("paper", [("iterations", 2)])).graph
    (trial,) = graph.trials.values()
    respond, train = (trial.iterations[0].steps[name] for name in ("respond", "train"))
    finished(store, respond, {"tokens": 300_000, "responses": 1000}, 50.0, H100)
    finished(store, train, {"tokens": 100_000, "pairs": 100}, 10.0, H100)
    after = by_stage(cost(graph, store))
    assert after["respond"].tokens == 2 * 20_000 * 5 * 300  # 300 tokens a response instead of 405
    assert after["respond"].device_s == pytest.approx(after["respond"].tokens / (300_000 / 50 / 8))
    assert list(after["respond"].figures) == ["measured: 750.0 tokens/s a h100 (1 runs)"]
    assert after["train"].tokens == 2 * 18_000 * (40 + 2 * 300)  # follows the measured responses
    assert after["train"].device_s == pytest.approx(after["train"].tokens / (100_000 / 10 / 8))
    assert list(after["rank"].figures) == ["table"]


@pytest.mark.parametrize(
    ("device", "change"),
    [
        ("NVIDIA A100-SXM4-80GB", ("seed", 1)),
        ("cpu", ("seed", 1)),
        (H100, ("model.source", "mistralai/Mistral-7B-Instruct-v0.2")),
        (H100, ("engine.name", "transformers")),
    ],
)
def test_a_run_on_another_device_model_or_engine_corrects_nothing(
    store: Store, device: str, change: tuple[str, Any]
) -> None:
    (other,) = foresee_graph(single_run("paper", [change])).graph.trials.values()
    finished(store, other.iterations[0].steps["respond"], {"tokens": 900, "responses": 3}, 1.0, device)
    graph = foresee_graph(single_run("paper", [("iterations", 1)])).graph
    (trial,) = graph.trials.values()
    estimator = CostEstimator(graph, store, GpuPlace("h100", 8))
    assert estimator.measured.rate(trial.iterations[0].steps["respond"]) is None


# ---- given pairs, and this machine without a GPU ----


def given_pairs_graph(folder: Path, **settings: Any) -> SweepGraph:
    """A study of two iterations on a file of 40 pairs, four of them no pairs, and a tiny model."""
    make_variant(folder / "model")
    rows = [{"prompt": f"Say {n}", "chosen": "rain " * 8, "rejected": "a bird " * 8} for n in range(36)]
    rows += [{"prompt": f"Say {n}", "chosen": "same", "rejected": "same"} for n in range(4)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pairs.yaml").write_text(
        "profile: laptop\nworld: null\niterations: 2\nbenchmarks: {constraints: null, held_out: {limit: 4}}\n"
        + json.dumps({"model": {"source": str(folder / "model")}})[1:-1].replace('"model"', "model")
        + f"\npairs: {json.dumps({'source': 'file', 'path': str(folder / 'pairs.jsonl')} | settings)}\n"
    )
    return foresee_graph(load_plannable(folder / "pairs.yaml", None, [])).graph


@pytest.mark.parametrize(("slices", "share"), [("contiguous", 0.5), ("all", 1.0)])
def test_given_pairs_are_counted_and_divided_among_the_iterations(
    slices: str, share: float, store: Store, tmp_path: Path
) -> None:
    graph = given_pairs_graph(tmp_path, slices=slices)
    train = by_stage(cost(graph, store, 1))["train"]
    characters = 7 + 40 + 56  # "Say 12" at most, and both responses without the white space at their ends
    assert train.tokens == pytest.approx(2 * 36 * share * 0.23 * characters, rel=0.05)
    assert train.device_s > 0


def test_given_pairs_that_are_not_here_are_taken_to_be_as_many_as_ultrafeedbacks(store: Store) -> None:
    pairs = {"source": "dataset", "dataset": "some/pairs"}
    settings = [("pairs", pairs), ("world", None), ("benchmarks", {"held_out": {"limit": 4}})]
    counts = {}
    for limit in (None, 500):
        graph = foresee_graph(
            single_run("paper", [*settings, ("pairs.limit", limit)] if limit else settings, check=True, elsewhere=True)
        ).graph
        counts[limit] = by_stage(cost(graph, store))["train"].tokens
    assert counts[None] / counts[500] == pytest.approx(61_135 / 500)


def test_pairs_of_a_world_are_counted_and_the_analysis_has_its_time(store: Store, tmp_path: Path) -> None:
    make_variant(tmp_path / "model")
    change = [("model.source", str(tmp_path / "model")), ("iterations", 1), ("analysis.similarity", "sentence")]
    trains, analyses = [], []
    for limit in (10, 40):
        pairs = [("pairs", {"source": "world", "limit": limit})]
        graph = foresee_graph(single_run("laptop", [*change, *pairs])).graph
        stages = by_stage(sweep_cost(graph, store, ProcessorPlace(2, 1), set()))
        trains.append(stages["train"].tokens)
        analyses.append(stages["analyse"].tokens)
        encoder_s = stages["analyse"].tokens * 2 * 10.7e6 / (throughputs().processor.gflops["rank"].value * 2e9)
        assert stages["analyse"].device_s == pytest.approx(throughputs().processor.start_s.value + encoder_s)
    assert [trains[1] / trains[0], analyses[1] / analyses[0]] == pytest.approx([4, 4], rel=0.05)
    assert 0.5 * trains[0] < analyses[0] < trains[0]  # responses without their prompts
    words = foresee_graph(single_run("laptop", [*change[:2], ("analysis.similarity", "words")])).graph
    assert by_stage(sweep_cost(words, store, ProcessorPlace(2, 1), set()))["analyse"].device_s == 0


def test_a_reward_model_has_its_time(store: Store, tmp_path: Path) -> None:
    make_variant(tmp_path / "model")
    change = [("model.source", str(tmp_path / "model")), ("iterations", 1), ("rank.ranker", "reward_model")]
    tokens = []
    for train in ({"n_pairs": 8, "epochs": 1}, {"n_pairs": 8, "epochs": 3}, {"n_pairs": 10_000, "epochs": 1}):
        graph = foresee_graph(single_run("laptop", [*change[:2], ("rank", {"ranker": "reward_model", "train": train})]))
        found = by_stage(sweep_cost(graph.graph, store, ProcessorPlace(2, 1), set()))["train_reward"]
        assert found.runs == 1 and found.device_s > throughputs().processor.start_s.value
        tokens.append(found.tokens)
    assert tokens[1] == pytest.approx(3 * tokens[0])
    assert tokens[2] == pytest.approx(tokens[0] / 8 * 40 * 6 * 0.8)  # every two of 4 candidates, a fifth kept back


def test_a_judge_of_candidates_takes_the_time_of_its_calls_and_no_gpu(store: Store) -> None:
    sweep = load_sweep(SWEEPS / "table4.yaml", "paper-mistral-7b-v0.2", check=True, elsewhere=True)
    graph = foresee_graph(sweep).graph
    (node,) = [one for one in graph.nodes.values() if one.stage == "rank" and one.request.config.get("judge")]
    estimator = CostEstimator(graph, store, GpuPlace("h100", 8))
    work = estimator.expected.work(node, estimator.recipe(node))
    assert (work.calls, estimator.place.devices(node)) == (60_000 * 5 * 3, 0)
    assert estimator.duration_s(node, work)[0] == pytest.approx(work.calls * 6 / 128)


def test_without_a_gpu_the_table_gives_the_time_of_a_users_recipe(store: Store, tmp_path: Path) -> None:
    graph = given_pairs_graph(tmp_path)
    one, two = (sweep_cost(graph, store, ProcessorPlace(threads, 1), set()) for threads in (1, 2))
    starts_s = throughputs().processor.start_s.value
    for name in ("train", "answer_official"):
        slow, fast = by_stage(one)[name], by_stage(two)[name]
        assert slow.device_s - slow.runs * starts_s == pytest.approx(2 * (fast.device_s - fast.runs * starts_s))
    judged = by_stage(one)["judge_official"]
    assert judged.device_s == 0  # nobody is asked about answers of one's own prompts
    assert one.wall_s == pytest.approx(sum(stage.device_s for stage in one.stages))
    two_at_once = sweep_cost(graph, store, ProcessorPlace(1, 2), set())
    assert two_at_once.wall_s < one.wall_s


def test_a_speed_measured_here_replaces_the_tables(store: Store, tmp_path: Path) -> None:
    graph = given_pairs_graph(tmp_path)
    (trial,) = graph.trials.values()
    finished(store, trial.iterations[0].steps["train"], {"tokens": 50_000, "pairs": 10}, 10.0, "cpu")
    train = by_stage(sweep_cost(graph, store, ProcessorPlace(2, 1), set()))["train"]
    assert list(train.figures) == ["measured: 625.0 tokens/s a worker (1 runs)"]
