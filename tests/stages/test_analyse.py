"""The pair analysis: rows and metrics by hand, and its place in a recipe's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.checks import analysis_problems
from aipo_lab.pipeline.graph import GraphBuilder, TrialGraph
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.sweeps.plan import runtime_of

RunStage = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]


def pair(identifier: str, chosen: str, rejected: str, lengths: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": identifier,
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "chosen_tokens": lengths[0],
        "rejected_tokens": lengths[1],
    }


PAIRS = [
    pair("a", "red fox", "red fox", (2, 4)),
    pair("b", "red fox", "blue bear", (4, 2)),
    pair("c", "red", "blue", (1, 5)),
    pair("too long", "red", "blue", (900, 900)),
]
LOGPS = [
    {"id": "a", "chosen_logps": -1.0, "rejected_logps": -4.0},
    {"id": "b", "chosen_logps": -8.0, "rejected_logps": -2.0},
    {"id": "c", "chosen_logps": -3.0, "rejected_logps": -10.0},
]
INPUTS = {"pairs": {"pairs.jsonl": PAIRS}, "reference": {"reference.jsonl": LOGPS}}


def test_rows_and_metrics(run_stage_on: RunStage, store: Any) -> None:
    rows, summary = run_stage_on("analyse", {"similarity": "words"}, INPUTS, "analysis.jsonl")
    assert summary == {"pairs": 3, "past_limits": 1}
    assert rows[1] == {
        "id": "b",
        "chosen_logps": -8.0,
        "rejected_logps": -2.0,
        "chosen_tokens": 4,
        "rejected_tokens": 2,
        "length_difference_tokens": 2,
        "s_ref": -6.0,
        "word_similarity": 0.0,
    }
    (folder,) = [path.parent for path in store.root.glob("analyse/*/metrics.json")]
    import json

    made = {name: one["value"] for name, one in json.loads((folder / "metrics.json").read_text()).items()}
    assert made["word_similarity"] == pytest.approx(1 / 3)
    assert made["chosen_logps"] == pytest.approx(-4) and made["rejected_logps"] == pytest.approx(-16 / 3)
    assert made["chosen_logps_per_token"] == pytest.approx((-0.5 - 2 - 3) / 3)
    assert made["length_difference_tokens"] == pytest.approx(-4 / 3)
    assert made["s_ref"] == pytest.approx(4 / 3)
    assert made["agreement"] == pytest.approx(200 / 3)
    assert made["s_ref_length_spearman"] == pytest.approx(-1.0)  # -2, 2, -4 against 3, -6, 7
    tokens, logps = [2, 4, 4, 2, 1, 5], [-1, -4, -8, -2, -3, -10]
    mean_t, mean_l = sum(tokens) / 6, sum(logps) / 6
    cross = sum((t - mean_t) * (v - mean_l) for t, v in zip(tokens, logps, strict=True))
    scale = (sum((t - mean_t) ** 2 for t in tokens) * sum((v - mean_l) ** 2 for v in logps)) ** 0.5
    assert made["logps_length_pearson"] == pytest.approx(cross / scale)


def test_what_cannot_be_told_is_left_out(run_stage_on: RunStage, store: Any) -> None:
    inputs = {"pairs": {"pairs.jsonl": PAIRS[:1]}, "reference": {"reference.jsonl": LOGPS[:1]}}
    run_stage_on("analyse", {"similarity": "none"}, inputs, "analysis.jsonl")
    import json

    (path,) = store.root.glob("analyse/*/metrics.json")
    made = json.loads(path.read_text())
    assert "s_ref_length_pearson" not in made and "similarity" not in made
    assert made["s_ref"] == {"value": 3.0, "se": None, "n": 1}


def test_no_pair_within_the_limits_fails(run_stage_on: RunStage) -> None:
    inputs = {"pairs": {"pairs.jsonl": PAIRS[3:]}, "reference": {"reference.jsonl": LOGPS}}
    with pytest.raises(StageFailed, match="none of 1 pairs is within the limits"):
        run_stage_on("analyse", {"similarity": "words"}, inputs, "analysis.jsonl")


def test_another_encoder_than_the_pinned_one_is_refused(
    run_stage_on: RunStage, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path))
    with pytest.raises(StageFailed, match="aipo-lab assets fetch minilm-l6-v2"):
        run_stage_on("analyse", {"similarity": "sentence", "encoder": "0" * 64}, INPUTS, "analysis.jsonl")


def graph(*changes: tuple[str, Any]) -> TrialGraph:
    recipe = build_recipe(profile_values("micro"), [("iterations", 2), *changes])
    return GraphBuilder(recipe, BaseModel(), runtime_of(recipe.compute), BenchmarkResources({}, {})).build()


WORDS = ("analysis.similarity", "words")


def test_without_the_section_nothing_changes_and_with_it_no_other_stage_does() -> None:
    plain, analysed = graph(), graph(WORDS)
    assert analysed.nodes().keys() - plain.nodes().keys() == {
        iteration.steps["analyse"].reference for iteration in analysed.iterations[:-1]
    }
    assert plain.nodes().keys() <= analysed.nodes().keys()


def test_the_training_s_reference_is_used_and_never_computed_again() -> None:
    for iteration in graph(WORDS).iterations[:-1]:
        inputs = iteration.steps["analyse"].request.inputs
        assert inputs["reference"] == iteration.steps["reference"].reference
        assert inputs["pairs"] == iteration.steps["pair"].reference


@pytest.mark.parametrize(
    "changes",
    [[("objective.name", "simpo")], [("reference", "base")], [("data", "accumulated")]],
    ids=["reference-free", "against-the-base", "accumulated"],
)
def test_pairs_are_measured_under_the_policy_that_wrote_them(changes: list[tuple[str, Any]]) -> None:
    trial = graph(WORDS, *changes)
    last = trial.iterations[1]
    measured = trial.nodes()[last.steps["analyse"].request.inputs["reference"]]
    assert measured.request.inputs == {"policy": last.policy.reference, "pairs": last.steps["pair"].reference}
    order = list(trial.nodes())
    assert order.index(measured.reference) < order.index(last.steps["analyse"].reference)


def test_the_encoder_is_asked_for_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path))
    (problem,) = analysis_problems(build_recipe(profile_values("micro"), [("analysis", {})]))
    assert problem.key == "analysis.similarity" and "assets fetch minilm-l6-v2" in problem.text
    assert not list(analysis_problems(build_recipe(profile_values("micro"), [WORDS])))
    with pytest.raises(UserError, match=r"analysis\.similarity.*'sentence', 'words' or 'none'"):
        build_recipe(profile_values("micro"), [("analysis.similarity", "letters")])
