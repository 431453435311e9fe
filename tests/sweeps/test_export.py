"""Exports of models: the same model for transformers and the lab, a card that says the truth, nothing overwritten."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_sweep import SPACE, aipo_lab, run_small_sweep
from tiny_model_folder import change_json

from aipo_lab.core.errors import UserError
from aipo_lab.core.yaml_text import parse_yaml
from aipo_lab.models.fingerprint import fingerprint_folder
from aipo_lab.models.policy import load_policy
from aipo_lab.pipeline.base_model import check_model_folder
from aipo_lab.sweeps.export import export_model
from aipo_lab.sweeps.points import find_point


@pytest.fixture
def runs(finished_sweep: Path, tmp_path: Path) -> Path:
    """The finished sweep's `runs`, copied."""
    return shutil.copytree(finished_sweep / "runs", tmp_path / "runs")


def rows_of(runs: Path) -> list[dict[str, str]]:
    with (runs / "tiny" / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def export(runs: Path, name: str, target: Path, **more: Any) -> Path:
    return export_model(find_point(name, runs / "tiny", None), target, **more)


def header(folder: Path) -> dict[str, Any]:
    return parse_yaml((folder / "README.md").read_text().split("---\n", 2)[1])


def logps(folder: Path, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return load_policy(folder, "cpu", "float32").model(torch.tensor([tokens])).logits.log_softmax(-1)


def test_every_row_names_its_checkpoint_and_the_store_has_it(runs: Path) -> None:
    rows = rows_of(runs)
    assert len(rows) == 6
    for row in rows:
        stage, key = row["checkpoint"].split("/")
        assert stage == ("base" if row["iteration"] == "0" else "train")
        assert (runs / "store" / stage / key / "model" / "model.safetensors").is_file()
    assert len({row["checkpoint"] for row in rows}) == 5  # the base model is one
    assert list(rows[0])[:9] == [
        "trial",
        "objective",
        "beta",
        "alpha",
        "gamma",
        "lambda",
        "iteration",
        "state",
        "checkpoint",
    ]


def test_an_export_is_the_model_of_its_row(runs: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (row,) = (row for row in rows_of(runs) if (row["trial"], row["iteration"]) == ("dpo-b0.1", "2"))
    folder = export(runs, "dpo-b0.1@2", tmp_path / "model")
    stored = runs / "store" / row["checkpoint"] / "model"
    assert (folder / "model.safetensors").read_bytes() == (stored / "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Tell me"}], add_generation_prompt=True)
    assert torch.equal(logps(folder, prompt["input_ids"]), logps(stored, prompt["input_ids"]))
    assert model.generation_config.eos_token_id is not None
    check_model_folder(folder)
    assert fingerprint_folder(folder) == fingerprint_folder(stored)


def test_the_card_says_what_the_files_say(runs: Path, tmp_path: Path) -> None:
    folder = export(runs, "dpo-b0.1@last", tmp_path / "model")
    row = rows_of(runs)[2]
    about = header(folder)["aipo_lab"]
    assert about["checkpoint"] == row["checkpoint"] and about["iteration"] == 2
    assert {path.name for path in folder.iterdir()} == {*about["files"], "README.md"}
    card = (folder / "README.md").read_text()
    value, error = row["micro/judged_win_rate"], float(row["micro/judged_win_rate_se"])
    assert f"| micro/judged_win_rate | {value} ± {error:.2g} | 50 | 8 |" in card
    assert f"| micro/length_tokens | {row['micro/length_tokens']}" in card
    assert card.count("dpo (beta 0.1") == 2  # both trainings that led there
    assert "judged by a program" in card and "from_pretrained" in card and "learning_rate | 0.002" in card
    assert str(runs) not in card
    base = (export(runs, "simpo-b2-g0.5@0", tmp_path / "base") / "README.md").read_text()
    assert "It was not: this is the base model" in base


def test_a_folder_with_files_is_only_replaced_with_force_and_nothing_foreign_is_deleted(
    runs: Path, tmp_path: Path
) -> None:
    target = export(runs, "dpo-b0.1@1", tmp_path / "deep" / "model")
    with pytest.raises(UserError, match=r"is not empty \(README.md.*--force"):
        export(runs, "dpo-b0.1@2", target)
    assert header(target)["aipo_lab"]["iteration"] == 1
    export(runs, "dpo-b0.1@2", target, force=True)
    assert header(target)["aipo_lab"]["iteration"] == 2
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    (target / "thesis.tex").write_text("mine")
    export(runs, "dpo-b0.1@1", target, force=True)
    assert not (target / "thesis.tex").exists()
    assert (tmp_path / "deep" / "model.replaced-1" / "thesis.tex").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        export(runs, "dpo-b0.1@1", tmp_path / "file", force=True)
    for inside in (runs, runs / "tiny", runs / "store" / "train"):
        with pytest.raises(UserError, match="holds, or lies in"):
            export(runs, "dpo-b0.1@1", inside, force=True)
    (tmp_path / "empty").mkdir()
    export(runs, "dpo-b0.1@1", tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dpo-b0.1@3", "iterations 0 .* to 2"),
        ("dpo-0.1@1", "did you mean 'dpo-b0.1'"),
        ("dpo-b0.1", "write TRIAL@ITERATION"),
        ("dpo-b0.1@-1", "write TRIAL@ITERATION"),
        ("@1", "write TRIAL@ITERATION"),
    ],
)
def test_a_point_that_is_not_there_is_named(runs: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        export(runs, name, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_freed_and_damaged_checkpoints_are_told_apart(runs: Path, tmp_path: Path) -> None:
    first, second = (runs / "store" / row["checkpoint"] for row in rows_of(runs)[1:3])
    shutil.rmtree(first)
    with pytest.raises(UserError, match=r"is not in the store .*: it was freed; run the sweep again"):
        export(runs, "dpo-b0.1@1", tmp_path / "model")
    weights = second / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged .*aipo-lab store verify"):
        export(runs, "dpo-b0.1@2", tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_the_checkpoint_is_the_one_that_the_results_name(runs: Path, tmp_path: Path) -> None:
    """As after an update of the program that gives a stage another key: the scores are gone, the table stays."""
    rows = rows_of(runs)
    other = rows[4]["checkpoint"]
    table = runs / "tiny" / "results.csv"
    table.write_text(table.read_text().replace(rows[1]["checkpoint"], other))
    shutil.rmtree(runs / "store" / "judge")
    folder = export(runs, "dpo-b0.1@1", tmp_path / "model")
    assert header(folder)["aipo_lab"]["checkpoint"] == other
    lines = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("".join(",".join(line[:8] + line[9:]) + "\n" for line in lines))  # of an earlier version
    assert find_point("dpo-b0.1@1", runs / "tiny", None).checkpoint == rows[1]["checkpoint"]


def test_what_the_recipe_says_of_the_conversation_goes_with_a_model_of_other_origin(runs: Path, tmp_path: Path) -> None:
    source = export(runs, "dpo-b0.1@2", tmp_path / "owned")
    declared = json.loads((source / "generation_config.json").read_text())
    change_json(source / "generation_config.json", eos_token_id=declared["pad_token_id"])
    (source / "README.md").write_text("---\nlicense: mit\n---\nmine\n")
    (source / "LICENSE").write_text("terms")
    next_one = tmp_path / "next"
    settings = {"model__source": str(source), "model__chat_template": "plain", "iterations": 1}
    run_small_sweep(next_one, SPACE[:1], **settings)
    for t in (0, 1):
        folder = export(next_one / "runs", f"dpo-b0.1@{t}", tmp_path / f"model{t}")
        policy = load_policy(folder, "cpu", "float32")
        assert "Assistant:" in policy.tokenizer.chat_template
        ends = sorted({declared["pad_token_id"], policy.tokenizer.eos_token_id})
        assert sorted(policy.model.generation_config.eos_token_id) == sorted(policy.end_token_ids) == ends
        assert len(ends) == 2
        assert header(folder)["license"] == "mit" and (folder / "LICENSE").read_text() == "terms"
        assert str(tmp_path) not in (folder / "README.md").read_text()
    change_json(source / "config.json", extra=1)
    with pytest.raises(UserError, match="has changed since the sweep ran"):
        export(next_one / "runs", "dpo-b0.1@0", tmp_path / "again")
    assert header(export(next_one / "runs", "dpo-b0.1@1", tmp_path / "again")).get("license") is None


def test_an_export_can_be_the_base_model_of_the_next_sweep(runs: Path, tmp_path: Path) -> None:
    done = aipo_lab("export", "dpo-b0.1@2", "mine", cwd=tmp_path)
    assert done.returncode == 0 and "chat mine" in done.stdout, done.stderr
    run_small_sweep(tmp_path / "next", SPACE[:1], model__source=str(tmp_path / "mine"), iterations=1)
    saved = yaml.safe_load((tmp_path / "next" / "runs" / "tiny" / "sweep.yaml").read_text())
    assert saved["models"][str(tmp_path / "mine")]["fingerprint"] == fingerprint_folder(tmp_path / "mine")
    refused = aipo_lab("export", "dpo-b0.1@2", "mine", cwd=tmp_path)
    assert refused.returncode == 2 and "--force" in refused.stderr
