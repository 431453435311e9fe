"""What an evaluation's output folder holds and how its scores are called, from artifacts in a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.browsing.entries import evaluation_entries
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json, read_jsonl, write_json, write_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.evaluation.evaluation import Evaluation, evaluation_config, plan_evaluation
from aipo_lab.evaluation.results import choose_output_folder, find_finished, merge, model_name, write_evaluation
from aipo_lab.pipeline.evaluation_graph import JudgingPlace
from aipo_lab.stages.definition import Runtime, StageNode

Evaluate = Callable[..., Evaluation]


@pytest.fixture
def evaluate(store: Store) -> Evaluate:
    """An evaluation by `judge`; `models` names the model in each benchmark's files, `unfinished` what has no scores."""

    def publish(node: StageNode, file: str, summary: Mapping[str, Any]) -> StageNode:
        def build(folder: Path) -> Mapping[str, Any]:
            (folder / "official").mkdir()
            (folder / "official" / file).write_text(file)
            write_json(
                folder / "scores.json",
                {"score": {"value": 5.0, "se": None, "n": 4}, "unjudged": {"value": 0.0, "se": None, "n": 6}},
            )
            return summary

        store.make(node.request, build)
        return node

    def make(
        judge: str, models: Mapping[str, str], unfinished: str = "", unjudged: Mapping[str, str] | None = None
    ) -> Evaluation:
        answers, scores = {}, {}
        for benchmark, model in models.items():
            answered = StageNode(ArtifactRequest("given_answers", 1, {"benchmark": benchmark, "of": model}, {}))
            answers[benchmark] = publish(answered, f"{model}.jsonl", {"model": model})
            request = ArtifactRequest(
                "judge_official", 1, {"benchmark": benchmark, "by": judge}, {"answers": answered.reference}
            )
            scores[benchmark] = StageNode(request)
            summary = {"judge": judge, "answers": 3, "notes": []}
            if benchmark != unfinished:
                publish(scores[benchmark], f"{judge}.jsonl", {**summary, "unjudged": unjudged or {}})
        return Evaluation("folder", answers, scores)

    return make


def write(evaluation: Evaluation, store: Store, out: Path) -> set[str]:
    """The files there are afterwards."""
    out.mkdir(exist_ok=True)
    write_evaluation(evaluation, find_finished(evaluation, store), out)
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def test_a_later_evaluation_replaces_what_it_finishes_and_keeps_the_rest(
    evaluate: Evaluate, store: Store, tmp_path: Path
) -> None:
    out, models = tmp_path / "out", {"arena_hard": "m", "mt_bench": "m"}
    official = {f"{name}/{file}" for name in models for file in ("m.jsonl", "good.jsonl", "scores.json")}
    assert write(evaluate("good", models), store, out) == {"evaluation.json", *official}
    mine = {"notes.txt", "alpaca_eval/mine.json"}
    for name in mine:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).touch()
    (out / ".arena_hard.new").mkdir()  # as a kill leaves it
    (out / ".arena_hard.new" / "half.jsonl").touch()
    left = write(evaluate("other", models, unfinished="mt_bench"), store, out)
    arena = {"arena_hard/m.jsonl", "arena_hard/other.jsonl", "arena_hard/scores.json"}
    earlier = {name for name in official if name.startswith("mt_bench")}
    assert left == {"evaluation.json", *arena, *earlier, *mine}
    judges = {name: made["judge"] for name, made in read_json(out / "evaluation.json")["benchmarks"].items()}
    assert judges == {"arena_hard": "other", "mt_bench": "good"}


def test_a_link_in_the_place_of_a_benchmark_goes_and_its_target_stays(
    evaluate: Evaluate, store: Store, tmp_path: Path
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for folder in (out, elsewhere):
        folder.mkdir()
    (elsewhere / "precious").touch()
    for name in ("arena_hard", "mt_bench"):
        (out / name).symlink_to(elsewhere)
    write(evaluate("j", {"arena_hard": "m", "mt_bench": "m"}, unfinished="mt_bench"), store, out)
    assert (out / "arena_hard" / "scores.json").is_file() and not (out / "arena_hard").is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_a_folder_of_answers_is_called_as_its_files_say(evaluate: Evaluate, store: Store, tmp_path: Path) -> None:
    same = evaluate("j", {"arena_hard": "m", "mt_bench": "m"})
    found = find_finished(same, store)
    assert model_name(same, found) == "m"
    assert [one.show().model for one in found] == ["m: Arena-Hard v0.1, judged by j", "m: MT-Bench, judged by j"]
    write(same, store, tmp_path / "out")
    assert read_json(tmp_path / "out" / "evaluation.json")["model"] == "m"
    differing = evaluate("j", {"arena_hard": "m", "mt_bench": "n"})
    found = find_finished(differing, store)
    assert model_name(differing, found) == "folder"
    assert [one.show().model.partition(":")[0] for one in found] == ["m", "n"]
    assert model_name(differing, []) == "folder"


def test_missing_verdicts_are_a_note_with_the_first_reason(evaluate: Evaluate, store: Store) -> None:
    unjudged = {"q7 game 2": "no verdict label", "q9 game 1": "another"}
    found = find_finished(evaluate("j", {"arena_hard": "m", "mt_bench": "m"}, unjudged=unjudged), store)
    note = "2 of 6 verdicts are missing and count for nothing, the first: q7 game 2 (no verdict label)"
    assert [list(one.show().notes) for one in found] == [[note], [note]]
    assert merge("m", found).notes == [f"arena_hard: {note}", f"mt_bench: {note}"]
    assert merge("m", found).scores.keys() == {
        f"{name}/{metric}" for name in ("arena_hard", "mt_bench") for metric in ("score", "unjudged")
    }


def test_results_never_go_over_answers_that_are_read_or_other_things(tmp_path: Path) -> None:
    default, data = tmp_path / "evaluations", tmp_path / "data"
    file = default / "m" / "mt_bench" / "model_answer" / "m.jsonl"
    for folder in (file.parent, data / "mt_bench", tmp_path / "earlier" / "mt_bench"):
        folder.mkdir(parents=True)
    file.touch()
    (file.parents[1] / "scores.json").touch()
    (tmp_path / "earlier" / "mt_bench" / "scores.json").touch()
    node = StageNode(ArtifactRequest("given_answers", 1, {}, {}), Runtime(answer_file=str(file)))
    evaluation = Evaluation("m", {"mt_bench": node}, {"mt_bench": node})
    config = evaluation_config(str(default / "m"), ["mt_bench"], None, "org/judge", [])
    with pytest.raises(UserError, match=r"with --out:\n  - .*m/mt_bench: the answers are read from there"):
        choose_output_folder(config, evaluation, default / "m", default)
    with pytest.raises(UserError, match=r"with --out:\n  - .*data/mt_bench: not a folder of such results"):
        choose_output_folder(config, evaluation, data, default)
    assert choose_output_folder(config, evaluation, None, default) == default / "m-judged-by-org--judge"
    assert choose_output_folder(config, evaluation, None, tmp_path) == tmp_path / "m"
    for free in (tmp_path / "out", tmp_path / "earlier", file.parent):
        assert choose_output_folder(config, evaluation, free, default) == free


@pytest.mark.usefixtures("cache")
def test_what_the_models_folder_is_called_is_in_no_key(base_model_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(base_model_folder, tmp_path / "other name")
    place = JudgingPlace(tmp_path, tmp_path)
    configs = [evaluation_config(str(model), ["mt_bench"], 3, "judge", []) for model in (base_model_folder, other)]
    planned = [plan_evaluation(config, place) for config in configs]
    assert [node.key for node in planned[0].nodes()] == [node.key for node in planned[1].nodes()]
    assert planned[1].model == "other name"


def test_a_policys_files_are_named_as_the_model_is_called_and_texts_stay(store: Store, tmp_path: Path) -> None:
    name = 'my "model" ü'

    def answers(folder: Path) -> Mapping[str, Any]:
        (folder / "official" / "model_answer").mkdir(parents=True)
        rows = [{"model": "policy-0a", "text": 'I am "policy-0a", policy-0a'}]
        write_jsonl(folder / "official" / "model_answer" / "policy-0a.jsonl", rows)
        return {"model": "policy-0a"}

    def scores(folder: Path) -> Mapping[str, Any]:
        write_json(folder / "scores.json", {})
        write_json(folder / "policy-0a.json", {})
        (folder / "official" / "policy-0a-judge").mkdir(parents=True)
        write_json(folder / "official" / "policy-0a-judge" / "all.json", [{"generator_2": "policy-0a"}])
        return {"judge": "j", "answers": 1, "notes": [], "unjudged": {}}

    answered = StageNode(ArtifactRequest("answer_official", 2, {}, {}))
    judged = StageNode(ArtifactRequest("judge_official", 1, {}, {"answers": answered.reference}))
    store.make(answered.request, answers)
    store.make(judged.request, scores)
    evaluation = Evaluation(name, {"mt_bench": answered}, {"mt_bench": judged})
    assert write(evaluation, store, tmp_path / "out") == {
        "evaluation.json",
        "mt_bench/scores.json",
        f"mt_bench/model_answer/{name}.jsonl",
        "mt_bench/policy-0a-judge/all.json",
    }
    (row,) = read_jsonl(tmp_path / "out" / "mt_bench" / "model_answer" / f"{name}.jsonl")
    assert row == {"model": name, "text": 'I am "policy-0a", policy-0a'}
    assert read_json(tmp_path / "out" / "mt_bench" / "policy-0a-judge" / "all.json") == [{"generator_2": name}]
    assert read_json(tmp_path / "out" / "evaluation.json")["model"] == name


def test_artifacts_are_named_from_the_folder_so_that_both_can_move(
    evaluate: Evaluate, store: Store, tmp_path: Path
) -> None:
    write(evaluate("j", {"mt_bench": "m"}), store, tmp_path / "out")
    made = read_json(tmp_path / "out" / "evaluation.json")["benchmarks"]["mt_bench"]
    assert made["answers"].startswith("../store/given_answers/") and made["scores"].startswith(
        "../store/judge_official/"
    )


@pytest.mark.parametrize("content", ['{"model": "m", "benchm', "[]", "{}", '{"benchmarks": {"mt_bench": {}}}', "\x00"])
def test_a_damaged_manifest_is_named_with_the_next_step(
    evaluate: Evaluate, store: Store, tmp_path: Path, content: str
) -> None:
    evaluation = evaluate("j", {"mt_bench": "m"})
    write(evaluation, store, tmp_path / "out")
    (tmp_path / "out" / "evaluation.json").write_text(content)
    with pytest.raises(UserError, match=r"out/evaluation.json is damaged, .* run the same aipo-lab evaluate again"):
        write(evaluation, store, tmp_path / "out")
    with pytest.raises(UserError, match="is damaged"):
        evaluation_entries(tmp_path / "out")
