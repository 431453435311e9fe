"""The stages that use a policy, run for real on a tiny trained one: what they write and what they count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.models.policy import POLICIES, load_policy
from aipo_lab.stages.definition import StageNode, get_stage, run_stage
from aipo_lab.worlds.world import get_world

RunStage = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]

WORLD = {"name": "micro", "seed": 0}
ENGINE = {"batch_size": 64, "shard_prompts": 8}
SAMPLING = {"temperature": 1.0, "max_new_tokens": 24}
INSTRUCT = {
    "n_prompts": 12,
    "n_per_completion": 2,
    "max_tokens": 40,
    "sampling": {"temperature": 0.9, "max_new_tokens": 48},
    "seed": 5,
    "world": WORLD,
    "engine": ENGINE,
}
PROMPTS = [{"id": f"{i:06d}", "prompt": text, "source": "pool"} for i, text in enumerate(get_world("micro").pool(10))]


def test_prompts_of_the_pool_are_a_seeded_sample(run_stage_on: RunStage, base_model_folder: Path) -> None:
    policy = {"model": base_model_folder}
    rows, summary = run_stage_on("instruct", INSTRUCT | {"source": "pool"}, {"policy": policy}, "prompts.jsonl")
    assert len({row["prompt"] for row in rows}) == 12
    assert {row["prompt"] for row in rows} <= set(get_world("micro").pool())
    assert [row["id"] for row in rows] == [f"{i:06d}" for i in range(12)]
    assert summary == {"prompts": 12, "wanted": 12, "counts": {"kept": 12}}
    other, _ = run_stage_on("instruct", INSTRUCT | {"source": "pool", "seed": 6}, {"policy": policy}, "prompts.jsonl")
    assert [row["prompt"] for row in other] != [row["prompt"] for row in rows]


def test_the_policy_writes_new_instructions_of_its_own(run_stage_on: RunStage, base_model_folder: Path) -> None:
    rows, summary = run_stage_on("instruct", INSTRUCT, {"policy": {"model": base_model_folder}}, "prompts.jsonl")
    world, texts = get_world("micro"), [row["prompt"] for row in rows]
    assert rows
    assert all(world.is_instruction(text) for text in texts)
    assert not set(texts) & set(world.pool())
    assert len(set(texts)) == len(texts) == summary["prompts"] <= 12
    assert {row["source"] for row in rows} == {"self_instruct"}
    counts = summary["counts"]
    assert counts["kept"] >= len(texts)
    assert counts["malformed"] > 0  # so small a policy makes mistakes, and they are counted
    assert {"kept", "malformed", "empty"} <= counts.keys()


def test_no_instruction_left_fails_with_the_counts(run_stage_on: RunStage, base_model_folder: Path) -> None:
    config = INSTRUCT | {"min_tokens": 39, "max_rounds": 1}
    with pytest.raises(StageFailed, match=r"no instruction was left of \d+ generated: too_short \d+"):
        run_stage_on("instruct", config, {"policy": {"model": base_model_folder}}, "prompts.jsonl")


def test_a_killed_instruct_stage_ends_with_the_same_prompts(
    store: Store, put_artifact: Callable[..., str], base_model_folder: Path
) -> None:
    reference = put_artifact("base", {"model": base_model_folder})
    request = ArtifactRequest(
        "instruct", get_stage("instruct").version, INSTRUCT | {"n_prompts": 30}, {"policy": reference}
    )
    node, calls = StageNode(request), []

    class Killed(BaseException):
        pass

    def die_after_two_rounds(*at: Any) -> None:
        calls.append(at)
        if len(calls) == 2:
            raise Killed

    with pytest.raises(Killed):
        run_stage(node, store, die_after_two_rounds)
    resumed = run_stage(node, store, lambda *_: None)
    other_store = Store(store.root.with_name("other"))
    (other_store.root / "base").mkdir(parents=True)
    (other_store.root / reference).symlink_to(store.root / reference)
    whole = run_stage(node, other_store, lambda *_: None)
    assert resumed.manifest["files"] == whole.manifest["files"]
    assert resumed.summary == whole.summary


RESPOND = {"n_candidates": 3, "max_prompt_tokens": 64, "sampling": SAMPLING, "seed": 4, "engine": ENGINE}


def test_every_prompt_gets_its_candidates(run_stage_on: RunStage, base_model_folder: Path) -> None:
    inputs = {"policy": {"model": base_model_folder}, "prompts": {"prompts.jsonl": PROMPTS}}
    rows, summary = run_stage_on("respond", RESPOND, inputs, "responses.jsonl")
    assert [(row["id"], row["prompt"]) for row in rows] == [(row["id"], row["prompt"]) for row in PROMPTS]
    candidates = [one for row in rows for one in row["responses"]]
    assert len(candidates) == 30
    for one in candidates:
        assert set(one) == {"text", "tokens", "token_ids", "finish_reason"}
        assert one["tokens"] == len(one["token_ids"])
        assert 1 <= one["tokens"] <= 24
        assert one["tokens"] == 24 or one["finish_reason"] == "stop"
    assert summary == {
        "prompts": 10,
        "prompts_too_long": 0,
        "responses": 30,
        "tokens": sum(one["tokens"] for one in candidates),
        "truncated": sum(one["finish_reason"] == "length" for one in candidates),
    }
    assert len({one["text"] for one in candidates}) > 20
    assert "</s>" not in "".join(one["text"] for one in candidates)


def test_prompts_past_the_limit_are_left_out_and_counted(run_stage_on: RunStage, base_model_folder: Path) -> None:
    tokenizer = load_policy(base_model_folder, "cpu", "float32").tokenizer
    n_tokens = [len(tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]) + 3 for row in PROMPTS]
    limit = sorted(n_tokens)[4]
    inputs = {"policy": {"model": base_model_folder}, "prompts": {"prompts.jsonl": PROMPTS}}
    rows, summary = run_stage_on("respond", RESPOND | {"max_prompt_tokens": limit}, inputs, "responses.jsonl")
    kept = [row["id"] for row, n in zip(PROMPTS, n_tokens, strict=True) if n <= limit]
    assert [row["id"] for row in rows] == kept
    assert summary["prompts_too_long"] == 10 - len(kept) > 0
    with pytest.raises(StageFailed, match="all 10 prompts are longer than max_prompt_tokens = 2"):
        run_stage_on("respond", RESPOND | {"max_prompt_tokens": 2}, inputs, "responses.jsonl")


def test_answers_are_to_the_benchmarks_prompts(run_stage_on: RunStage, base_model_folder: Path) -> None:
    config = {
        "benchmark": "micro", "world": WORLD, "n_prompts": 9, "sampling": SAMPLING, "seed": 1, "engine": ENGINE,
    }  # fmt: skip
    rows, summary = run_stage_on("answer", config, {"policy": {"model": base_model_folder}}, "answers.jsonl")
    assert [row["prompt"] for row in rows] == get_world("micro").benchmark_prompts(9)
    assert summary == {"answers": 9, "tokens": sum(row["tokens"] for row in rows)}
    again, _ = run_stage_on("answer", config, {"policy": {"model": base_model_folder}}, "answers.jsonl")
    assert again == rows


def make_pairs(n: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{i:06d}",
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": "That is worth knowing. " * (i % 3 + 1)}],
            "rejected": [{"role": "assistant", "content": "Everyone agrees on this point."}],
            "chosen_finish_reason": "stop",
            "rejected_finish_reason": "stop",
        }
        for i, prompt in enumerate(get_world("micro").pool(n))
    ]


LIMITS = {"max_prompt_tokens": 64, "max_response_tokens": 12, "micro_batch_tokens": 256}


def train_config(name: str = "dpo", **hyperparameters: float) -> dict[str, Any]:
    return {
        **LIMITS,
        "learning_rate": 1e-3,
        "batch_size": 4,
        "seed": 0,
        "objective": {"name": name, "hyperparameters": {"beta": 0.1, "label_smoothing": 0.0} | hyperparameters},
    }


def test_reference_and_training_agree_on_the_pairs_they_leave_out(
    run_stage_on: RunStage, base_model_folder: Path
) -> None:
    inputs = {"policy": {"model": base_model_folder}, "pairs": {"pairs.jsonl": make_pairs()}}
    reference, summary = run_stage_on("reference", LIMITS, inputs, "reference.jsonl")
    short = [f"{i:06d}" for i in range(12) if i % 3 < 2]  # three sentences make 15 tokens and an end token
    assert [row["id"] for row in reference] == short
    assert summary == {"pairs": 8}
    assert all(row["chosen_logps"] < 0 and row["rejected_logps"] < 0 for row in reference)
    inputs["reference"] = {"reference.jsonl": reference}
    curve, summary = run_stage_on("train", train_config(), inputs, "curve.jsonl")
    assert (summary["pairs"], summary["excluded"]) == (8, {"response_too_long": 4})
    assert summary["steps"] == len(curve) == 2
    assert curve[0]["loss"] == pytest.approx(0.693147, abs=1e-4)  # the reference is the policy's own


def test_the_order_of_the_reference_does_not_matter(run_stage_on: RunStage, base_model_folder: Path) -> None:
    inputs = {"policy": {"model": base_model_folder}, "pairs": {"pairs.jsonl": make_pairs()}}
    reference, _ = run_stage_on("reference", LIMITS, inputs, "reference.jsonl")
    curves = [
        run_stage_on("train", train_config(), inputs | {"reference": {"reference.jsonl": rows}}, "curve.jsonl")[0]
        for rows in (reference, reference[::-1])
    ]
    assert curves[0] == curves[1]


def test_simpo_trains_without_a_reference(run_stage_on: RunStage, base_model_folder: Path) -> None:
    inputs = {"policy": {"model": base_model_folder}, "pairs": {"pairs.jsonl": make_pairs()}}
    curve, _ = run_stage_on("train", train_config("simpo", beta=2.0, gamma=0.5), inputs, "curve.jsonl")
    assert "s_ref" not in curve[0]


def test_no_pair_within_the_limits_fails_with_the_counts(run_stage_on: RunStage, base_model_folder: Path) -> None:
    inputs = {"policy": {"model": base_model_folder}, "pairs": {"pairs.jsonl": make_pairs()}}
    with pytest.raises(StageFailed, match=r"none of 12 pairs is within the token limits: \{'prompt_too_long': 12\}"):
        run_stage_on("reference", LIMITS | {"max_prompt_tokens": 2}, inputs, "reference.jsonl")


def test_training_publishes_an_ordinary_model_folder_and_leaves_its_start_alone(
    store: Store, put_artifact: Callable[..., str], base_model_folder: Path
) -> None:
    before = load_policy(base_model_folder, "cpu", "float32").model.state_dict()
    references = {
        "policy": put_artifact("base", {"model": base_model_folder}),
        "pairs": put_artifact("pair", {"pairs.jsonl": make_pairs()}),
    }
    config = train_config("simpo", beta=2.0, gamma=0.5)
    start = store.root / references["policy"] / "model"
    POLICIES.get(start, "cpu", "float32")  # in memory, as after generating with it
    made = run_stage(StageNode(ArtifactRequest("train", 1, config, references)), store, lambda *_: None)
    names = {path.name for path in made.file("model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    kept = POLICIES.get(made.file("model"), "cpu", "float32").model.state_dict()
    loaded = load_policy(made.file("model"), "cpu", "float32").model.state_dict()
    base = POLICIES.get(start, "cpu", "float32").model.state_dict()
    assert all(torch.equal(kept[name], loaded[name]) for name in loaded)  # in memory and on disk the same
    assert all(torch.equal(before[name], base[name]) for name in before)
    assert any(not torch.equal(loaded[name], base[name]) for name in loaded)
    again = Store(store.root.with_name("again"))
    for reference in references.values():
        (again.root / reference).parent.mkdir(parents=True, exist_ok=True)
        (again.root / reference).symlink_to(store.root / reference)
    repeated = run_stage(StageNode(ArtifactRequest("train", 1, config, references)), again, lambda *_: None)
    timed = "speed.jsonl"
    files, same_files = ({k: v for k, v in one.manifest["files"].items() if k != timed} for one in (made, repeated))
    assert same_files == files
    assert [row["step"] for row in read_jsonl(made.file(timed))] == [1, 2]


def test_judging_writes_scores_with_errors_and_one_judgment_per_answer(
    store: Store, put_artifact: Callable[..., str]
) -> None:
    rows = [
        {"id": f"{i:06d}", "prompt": prompt, "text": "That is worth knowing.", "tokens": 6, "finish_reason": "stop"}
        for i, prompt in enumerate(get_world("micro").benchmark_prompts(8))
    ]
    answers = put_artifact("answer", {"answers.jsonl": rows})
    config = {"benchmark": "micro", "world": WORLD, "length_bias": 0.05}
    request = ArtifactRequest("judge", 1, config, {"answers": answers, "baseline": answers})
    made = run_stage(StageNode(request), store, lambda *_: None)
    scores = json.loads(made.file("scores.json").read_text())
    assert scores["win_rate"] == scores["lc_win_rate"] == {"value": 50.0, "se": 0.0, "n": 8}
    assert len(read_jsonl(made.file("judgments.jsonl"))) == made.summary["answers"] == 8
