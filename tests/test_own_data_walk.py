"""docs/own-data.md as a user walks it: every recipe and command of the page, on a tiny model."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from model_variants import make_variant

from aipo_lab.core.jsonl import read_json, read_jsonl
from aipo_lab.results.rows import read_results

PAGE = Path(__file__).parents[1] / "docs" / "own-data.md"
WORDS = ("hill", "rain", "moon", "river", "stone", "bird", "field", "winter")


def write_data(folder: Path) -> None:
    draw = random.Random(0)
    rows = [{"prompt": f"Name {' '.join(draw.sample(WORDS, 4))} {number}"} for number in range(50)]
    rows += [{"prompt": f" {rows[0]['prompt'].upper()} "}, {"prompt": None}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    turns = [
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"{' '.join(draw.sample(WORDS, 3))} {n}"},
        ]
        for n in range(20)
    ]
    pairs: list[dict[str, Any]] = [{"prompt": f"Say {n}", "chosen": "rain", "rejected": "rain rain"} for n in range(30)]
    pairs += [{"prompt": one, "chosen": answer("moon"), "rejected": answer("a bird")} for one in turns]
    pairs += [{"prompt": "Say 1", "chosen": "same", "rejected": "same"}]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def call(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", *command.replace("aipo-lab", "aipo_lab").split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after every command of the page, a blanket setting added that keeps the tests short."""
    folder = tmp_path_factory.mktemp("own")
    make_variant(folder / "model")
    write_data(folder)
    text = PAGE.read_text(encoding="utf-8")
    for name, content in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        (folder / name).write_text(content)
    for command in re.findall(r"^\$ (aipo-lab .*)$", text, re.MULTILINE):
        done = call(folder, command + (" --tracker none" if " run " in command else ""))
        assert done.returncode == 0, command + done.stdout + done.stderr
    return folder


def manifests(folder: Path, stage: str) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted((folder / "runs" / "store" / stage).glob("*/manifest.json"))]


def files(folder: Path, stage: str, name: str) -> list[list[dict[str, Any]]]:
    return [read_jsonl(path) for path in sorted((folder / "runs" / "store" / stage).glob(f"*/{name}"))]


@pytest.mark.parametrize("name", ["mine", "pairs"])
def test_every_iteration_has_its_lengths(name: str, walked: Path) -> None:
    rows = read_results(walked / "runs" / name / "results.csv")
    assert [(row.iteration, row.state) for row in rows] == [(0, "complete"), (1, "complete"), (2, "complete")]
    for row in rows:
        assert row.value("held_out/n") == 10
        assert row.value("held_out/length_tokens") and row.value("held_out/distinct")
    assert (walked / "runs" / name / "report.html").is_file()


def test_prompts_are_cleaned_counted_and_kept_back(walked: Path) -> None:
    (pool,) = manifests(walked, "pool")
    assert pool["summary"] == {
        "prompts": 40,
        "held_out": 10,
        "counts": {"duplicate": 1, "empty": 1, "kept": 50},
    }
    asked = {row["prompt"] for rows in files(walked, "instruct", "prompts.jsonl") for row in rows}
    (back,) = files(walked, "pool", "held_out.jsonl")
    assert asked and not asked & {row["prompt"] for row in back}


def test_pairs_are_divided_among_iterations_and_nothing_is_generated_for_them(walked: Path) -> None:
    (given,) = manifests(walked, "given_pairs")
    assert given["summary"]["counts"] == {"held_out": 10, "kept": 40, "same_text": 1}
    slices = [[row["id"] for row in rows] for rows in files(walked, "slice_pairs", "pairs.jsonl")]
    assert sorted(map(len, slices)) == [20, 20]
    assert not set(slices[0]) & set(slices[1])
    stages = Counter(path.parent.name for path in (walked / "runs" / "store").glob("*/*") if path.is_dir())
    assert stages["respond"] == 2  # of the prompts' run alone
    trained = [one for one in manifests(walked, "train") if one["inputs"]["pairs"].startswith("slice_pairs/")]
    assert [one["summary"]["pairs"] for one in trained] == [20, 20]


def test_system_turns_and_tokens_follow_the_rule_of_chat(walked: Path) -> None:
    from transformers import AutoTokenizer

    from aipo_lab.models.chat import encode_prompt, encode_response

    tokenizer = AutoTokenizer.from_pretrained(walked / "model")
    rows = [row for rows in files(walked, "slice_pairs", "pairs.jsonl") for row in rows]
    assert sum(row["prompt"][0]["role"] == "system" for row in rows) == 20
    for row in rows:
        assert row["prompt_token_ids"] == encode_prompt(tokenizer, row["prompt"])
        assert row["chosen_token_ids"] == encode_response(tokenizer, row["chosen"][0]["content"], True)


def test_a_renamed_file_computes_nothing_again_and_results_need_none(walked: Path) -> None:
    (walked / "prompts.jsonl").rename(walked / "renamed.jsonl")
    try:
        moved = call(walked, "aipo-lab run mine.yaml --out runs/mine --tracker none --set prompts.path=renamed.jsonl")
        assert "20 already stored" in " ".join(moved.stdout.split()), moved.stdout + moved.stderr
        gone = call(walked, "aipo-lab run mine.yaml --out runs/mine --tracker none")
        assert gone.returncode == 2
        assert "prompts.path 'prompts.jsonl' is not there" in gone.stderr
        finished = call(walked, "aipo-lab status runs/mine")
        assert finished.returncode == 0 and "complete" in finished.stdout
    finally:
        (walked / "renamed.jsonl").rename(walked / "prompts.jsonl")
