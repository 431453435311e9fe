"""The graph of a sweep: what is shared, keys that follow from content alone, seeds without the trial."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.seeds import derive_seed
from aipo_lab.core.store import ArtifactRequest, Store, artifact_key
from aipo_lab.stages.definition import STAGE_NAMES, StageNode
from aipo_lab.sweeps.plan import SweepGraph, build_graph, estimate_duration_s, plan_stages, sweep_workers
from aipo_lab.sweeps.sweep import Sweep, load_sweep, single_run

SWEEPS = Path(__file__).parents[2] / "sweeps"
FIRST_ITERATION = ("base", "instruct", "respond", "rank", "pair", "reference")


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return load_sweep(SWEEPS / "table6.yaml")


@pytest.fixture(scope="module")
def graph(sweep: Sweep) -> SweepGraph:
    return build_graph(sweep)


def publish(store: Store, node: StageNode, duration_s: float = 0.0) -> None:
    """Put an empty artifact where the node's would be."""
    artifact = store.make(node.request, lambda folder: {})
    manifest = artifact.path / "manifest.json"
    manifest.write_text(json.dumps({**artifact.manifest, "duration_s": duration_s}))


def test_iteration_0_up_to_the_reference_is_one_node_for_all_trials(graph: SweepGraph) -> None:
    for stage in FIRST_ITERATION:
        nodes = {trial.nodes_of(0, stage) for trial in map(_Trial, graph.trials.values())} - {None}
        assert len(nodes) == 1, stage
    base_answers = {trial.iterations[0].answers["micro"].key for trial in graph.trials.values()}
    base_scores = {trial.iterations[0].scores["micro"].key for trial in graph.trials.values()}
    assert len(base_answers) == len(base_scores) == 1


class _Trial:
    """Looks a trial's nodes up by iteration and stage."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def nodes_of(self, t: int, stage: str) -> str | None:
        iteration = self.graph.iterations[t]
        node = iteration.policy if stage == "base" else iteration.steps.get(stage)
        return node.key if node else None


def test_trials_part_with_the_first_training(graph: SweepGraph) -> None:
    n_iterations = len(graph.trials["dpo-b0.1"].iterations) - 1
    for t in range(n_iterations):
        assert len({trial.iterations[t].steps["train"].key for trial in graph.trials.values()}) == 20
    for t in range(1, n_iterations):
        assert len({trial.iterations[t].steps["instruct"].key for trial in graph.trials.values()}) == 20


def test_counts_of_table_6_are_those_of_algorithm_1(sweep: Sweep, tmp_path: Path) -> None:
    assert sweep.trials[0].recipe.iterations >= 3
    own_data = {"pool", "given_pairs", "slice_pairs", "slice_responses"}
    axes = {"accumulate", "ema", "analyse", "train_reward"}
    official = {"answer_official", "given_answers", "judge_official"}
    embedded = set(STAGE_NAMES) - official - own_data - axes - {"train_reward"}
    graph = build_graph(load_sweep(SWEEPS / "table6.yaml", None, [("iterations", 3)]))
    plans = {plan.stage: plan for plan in plan_stages(graph, Store(tmp_path))}
    # 20 trials x 3 iterations; iteration 0 once; 4 of the trials (simpo) have no reference
    assert {stage: plan.distinct for stage, plan in plans.items()} == {
        "base": 1,
        **dict.fromkeys(("instruct", "respond", "rank", "pair"), 1 + 20 * 2),
        "reference": 1 + 16 * 2,
        "train": 60,
        "answer": 2 + 20 * 3,  # the base model answers twice
        "judge": 2 + 20 * 3,
    }
    assert {stage: plan.unshared for stage, plan in plans.items()} == {
        "base": 20,
        **dict.fromkeys(("instruct", "respond", "rank", "pair", "train"), 60),
        "reference": 48,
        "answer": 100,
        "judge": 100,
    }
    assert plans.keys() == embedded
    assert {stage for stage, plan in plans.items() if plan.shared} == plans.keys() - {"train"}
    again = {"answer": 1, "judge": 1}  # the base model's second answers
    assert all(plan.shared <= 1 + again.get(stage, 0) for stage, plan in plans.items())


def test_counts_equal_the_union_of_the_trials_keys(graph: SweepGraph, tmp_path: Path) -> None:
    union = {(node.stage, node.key) for trial in graph.trials.values() for node in trial.nodes().values()}
    counted = Counter(stage for stage, _ in union)
    assert {plan.stage: plan.distinct for plan in plan_stages(graph, Store(tmp_path))} == counted
    assert {node.reference for node in graph.nodes.values()} == {f"{stage}/{key}" for stage, key in union}


def test_simpo_alone_has_no_reference(graph: SweepGraph) -> None:
    for name, trial in graph.trials.items():
        stages = {node.stage for node in trial.nodes().values()}
        assert ("reference" in stages) == (not name.startswith("simpo")), name
        for iteration in trial.iterations[:-1]:
            inputs = iteration.steps["train"].request.inputs
            assert ("reference" in inputs) == (not name.startswith("simpo")), name


def test_each_iteration_trains_from_and_compares_with_its_own_start(graph: SweepGraph) -> None:
    for trial in graph.trials.values():
        for before, after in zip(trial.iterations, trial.iterations[1:], strict=False):
            train, policy = before.steps["train"].request, before.policy.reference
            assert train.inputs["policy"] == policy
            assert train.inputs["pairs"] == before.steps["pair"].reference
            if "reference" in before.steps:
                assert before.steps["reference"].request.inputs["policy"] == policy
            assert before.steps["instruct"].request.inputs["policy"] == policy
            assert before.steps["respond"].request.inputs["policy"] == policy
            assert after.policy.reference == before.steps["train"].reference
            assert after.scores["micro"].request.inputs["baseline"] == trial.iterations[0].answers["micro"].reference


def test_nodes_come_after_their_inputs(graph: SweepGraph) -> None:
    seen: set[str] = set()
    for reference, node in graph.nodes.items():
        assert set(node.request.inputs.values()) <= seen, reference
        seen.add(reference)


def test_seeds_depend_on_seed_iteration_and_stage_not_on_the_trial(graph: SweepGraph) -> None:
    seeds: dict[tuple[str, int], set[int]] = {}
    for trial in graph.trials.values():
        for iteration in trial.iterations:
            for stage, node in iteration.steps.items():
                if "seed" in node.request.config:
                    seeds.setdefault((stage, iteration.t), set()).add(node.request.config["seed"])
    n_iterations = len(graph.trials["dpo-b0.1"].iterations) - 1
    stages = ("instruct", "respond", "rank", "train")
    assert set(seeds) == {(stage, t) for stage in stages for t in range(n_iterations)}
    assert all(len(values) == 1 for values in seeds.values())
    assert len({value for values in seeds.values() for value in values}) == len(seeds)
    assert seeds["train", 1] == {derive_seed(0, 1, "train")}


def test_answers_draw_the_same_random_numbers_at_every_iteration(graph: SweepGraph) -> None:
    answers = [iteration.answers["micro"] for trial in graph.trials.values() for iteration in trial.iterations]
    assert len({node.request.config["seed"] for node in answers}) == 1


def test_the_base_model_answers_again_with_another_seed_where_that_is_asked_for(graph: SweepGraph) -> None:
    trial = graph.trials["dpo-b0.1"]
    answers, scores = trial.again["micro"]
    first = trial.iterations[0].answers["micro"]
    assert answers.request.inputs == first.request.inputs
    assert answers.request.config["seed"] != first.request.config["seed"]
    assert answers.request.config | {"seed": 0} == first.request.config | {"seed": 0}
    assert scores.request.inputs == {"answers": answers.reference, "baseline": first.reference}
    assert {answers.reference, scores.reference} <= graph.nodes.keys()
    (other,) = build_graph(single_run("micro", [("benchmarks.micro.noise_floor", False)])).trials.values()
    assert other.again == {}


def test_the_judge_does_not_follow_the_ranker(graph: SweepGraph) -> None:
    (other,) = build_graph(single_run("micro", [("rank.length_bias", 0.3), ("rank.noise_sd", 0.0)])).trials.values()
    scores = other.iterations[0].scores["micro"]
    assert scores.request.config["length_bias"] == 0.05
    assert scores.key == graph.trials["dpo-b0.1"].iterations[0].scores["micro"].key


def test_another_seed_changes_everything_that_is_drawn() -> None:
    graphs = [build_graph(single_run("micro", [("seed", seed)])) for seed in (0, 1)]
    shared = graphs[0].nodes.keys() & graphs[1].nodes.keys()
    assert {graphs[0].nodes[reference].stage for reference in shared} == {"base"}


@pytest.mark.parametrize(
    ("change", "first_changed"),
    [
        (("train.learning_rate", 1e-4), {"train"}),
        (("objective.beta", 0.2), {"train"}),
        (("pair.drop_urls", False), {"pair", "reference", "train"}),
        (("rank.noise_sd", 0.2), {"rank", "pair", "reference", "train"}),
        (("respond.n_candidates", 5), {"respond", "rank", "pair", "reference", "train"}),
        (("compute.threads", 2), set()),
        (("compute.workers", 1), set()),
        (("compute.device", "cuda"), set()),
    ],
)
def test_a_change_reaches_what_depends_on_it_and_no_more(change: tuple[str, Any], first_changed: set[str]) -> None:
    (one,) = build_graph(single_run("micro")).trials.values()
    (other,) = build_graph(single_run("micro", [change])).trials.values()
    steps = [trial.iterations[0].steps for trial in (one, other)]
    assert {stage for stage in steps[0] if steps[0][stage].key != steps[1][stage].key} == first_changed
    assert one.iterations[0].policy.key == other.iterations[0].policy.key


def test_the_judges_taste_changes_scores_only() -> None:
    (one,) = build_graph(single_run("micro")).trials.values()
    (other,) = build_graph(single_run("micro", [("benchmarks.judge_length_bias", 0.3)])).trials.values()
    changed = one.nodes().keys() ^ other.nodes().keys()
    assert {reference.split("/")[0] for reference in changed} == {"judge"}


def test_more_iterations_share_the_first_ones() -> None:
    short, long = (build_graph(single_run("micro", [("iterations", n)])) for n in (2, 4))
    assert short.nodes.keys() < long.nodes.keys()


def test_a_schedule_shares_an_iteration_with_a_constant_of_the_same_value() -> None:
    graphs = [
        build_graph(single_run("micro", [("iterations", 3), ("objective.beta", beta)]))
        for beta in (0.1, [0.1, 0.5, 0.5])
    ]
    one, other = (trial for graph in graphs for trial in graph.trials.values())
    keys = [[iteration.policy.key for iteration in trial.iterations] for trial in (one, other)]
    assert keys[0][:2] == keys[1][:2]
    assert keys[0][2] != keys[1][2]


def test_stored_artifacts_are_counted_and_not_run_again(tmp_path: Path) -> None:
    sizes = [
        ("iterations", 3),
        ("instruct.n_prompts", 10),
        ("respond.n_candidates", 4),
        ("respond.sampling.max_new_tokens", 50),
        ("benchmarks.micro.n_prompts", 30),
        ("benchmarks.micro.sampling.max_new_tokens", 70),
    ]
    graph, store = build_graph(load_sweep(SWEEPS / "table6.yaml", None, sizes)), Store(tmp_path)
    before = {plan.stage: plan for plan in plan_stages(graph, store)}
    assert all(plan.stored == 0 and plan.to_run == plan.distinct for plan in before.values())
    (trial, *_) = graph.trials.values()
    for node in trial.nodes().values():
        publish(store, node)
    after = {plan.stage: plan for plan in plan_stages(graph, store)}
    for stage, plan in after.items():
        own = sum(node.stage == stage for node in trial.nodes().values())
        assert (plan.stored, plan.to_run) == (own, plan.distinct - own)
    assert before["respond"].tokens == 41 * 10 * 4 * 50
    assert after["respond"].tokens == (41 - 3) * 10 * 4 * 50
    assert before["answer"].tokens == 62 * 30 * 70
    assert after["answer"].tokens == (61 - 4) * 30 * 70
    assert before["judge"].tokens == before["train"].tokens == 0


def test_the_time_is_known_once_every_kind_of_stage_has_run(tmp_path: Path) -> None:
    graph, store = build_graph(single_run("micro")), Store(tmp_path)
    assert estimate_duration_s(graph, store, 1) is None
    for node in graph.trials["dpo"].iterations[0].nodes():
        publish(store, node, duration_s=2.0)
    left = len(graph.nodes) - len(graph.trials["dpo"].iterations[0].nodes())
    # one trial, whose evaluation of an iteration runs beside the next steps, which wait for each other
    assert estimate_duration_s(graph, store, 1) == pytest.approx(left * 2.0)
    two_workers_s = estimate_duration_s(graph, store, 2)
    assert two_workers_s is not None and left * 2.0 / 2 < two_workers_s < left * 2.0


def test_workers_are_as_the_recipe_says() -> None:
    assert sweep_workers(single_run("micro", [("compute.workers", 3)])) == 3
    assert sweep_workers(single_run("micro", [("compute.threads", "all")])) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)
configs = st.dictionaries(st.text(min_size=1, max_size=6), json_values, max_size=5)
input_maps = st.dictionaries(st.sampled_from(["policy", "pairs", "prompts"]), st.from_regex(r"[a-z]+/[0-9a-f]{4}"))


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(one, rng) for key, one in items}
    return [shuffled(one, rng) for one in value] if isinstance(value, list) else value


@given(configs, input_maps, st.integers())
def test_a_key_does_not_depend_on_the_order_of_keys(config: dict, inputs: dict, seed: int) -> None:
    rng = random.Random(seed)
    key = artifact_key("train", 1, config, inputs)
    assert artifact_key("train", 1, shuffled(config, rng), shuffled(inputs, rng)) == key
    assert ArtifactRequest("train", 1, config, inputs).key == key
    assert len(key) == 24 and set(key) <= set("0123456789abcdef")


@given(configs, configs, input_maps, input_maps)
def test_a_key_changes_with_stage_version_config_and_inputs(
    config: dict, other_config: dict, inputs: dict, other_inputs: dict
) -> None:
    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True)

    key = artifact_key("train", 1, config, inputs)
    assert artifact_key("pair", 1, config, inputs) != key
    assert artifact_key("train", 2, config, inputs) != key
    assert (artifact_key("train", 1, other_config, inputs) == key) == (text(config) == text(other_config))
    assert (artifact_key("train", 1, config, other_inputs) == key) == (text(inputs) == text(other_inputs))


def test_a_config_that_is_not_finite_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifact_key("train", 1, {"beta": float("nan")}, {})


@given(st.lists(st.integers(0, 10**6) | st.text("abc", max_size=3), min_size=1, max_size=4))
def test_a_seed_fits_every_library(parts: list[int | str]) -> None:
    assert 0 <= derive_seed(*parts) < 2**31
    assert derive_seed(*parts) == derive_seed(*parts)
