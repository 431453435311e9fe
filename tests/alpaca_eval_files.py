"""AlpacaEval's files for tests: the published ones of `AIPO_LAB_ASSETS`, and an asset installed from chosen files."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aipo_lab.assets.library as assets
from aipo_lab.assets.alpaca_eval import ALPACA_EVAL, DF_GAMED, REFERENCE_OUTPUTS
from aipo_lab.benchmarks.alpaca_eval.benchmark import AlpacaEval
from aipo_lab.benchmarks.alpaca_eval.results import AlpacaEvalJudged
from aipo_lab.benchmarks.official import Answer
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.judging.calls import Judge

MODELS = {"gpt4_gamed": "GPT-4 (Adversarial)", "alpaca-7b": "Alpaca 7B"}
"""Published models by generator name, with their name in the leaderboard."""
ALL_MODELS = {
    **MODELS,
    "claude": "Claude",
    "gpt-3.5-turbo-1106": "GPT 3.5 Turbo (11/06)",
    "nous-hermes-13b": "Nous Hermes 13B",
    "oasst-sft-llama-33b": "LLaMA 33B OASST SFT",
    "vicuna-13b-v1.5": "Vicuna 13B v1.5",
}


def published() -> Path:
    """The folder of AlpacaEval's published files; skips the test without it."""
    folder = os.environ.get("AIPO_LAB_ASSETS")
    if not folder:
        pytest.skip("AIPO_LAB_ASSETS, the folder of the benchmarks' official files, is not set")
    return Path(folder) / "alpaca_eval"


def outputs_of(model: str) -> Path:
    return published() / "results" / model / "model_outputs.json"


def annotations_of(model: str) -> Path:
    return published() / "results" / model / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"


def leaderboard(model: str) -> dict[str, float]:
    """The published numbers of a model; the standard errors are in the package's own table."""
    with (published() / "leaderboard.csv").open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["name"] == ALL_MODELS[model])
    return {key: float(row[key]) for key in ("win_rate", "length_controlled_winrate", "avg_length")}


def install_asset(cache: Path, monkeypatch: pytest.MonkeyPatch, *, df_gamed: Path | None = None) -> None:
    """Place the official reference outputs, and `df_gamed` if given, where `aipo-lab assets fetch` would."""
    monkeypatch.setenv("AIPO_LAB_CACHE", str(cache))
    monkeypatch.setitem(assets._ASSETS, ALPACA_EVAL.name, ALPACA_EVAL)
    folder = cache / "assets" / ALPACA_EVAL.name
    folder.mkdir(parents=True)
    shutil.copy(published() / "gpt4_1106_preview.json", folder / REFERENCE_OUTPUTS)
    if df_gamed is not None:
        shutil.copy(df_gamed, folder / DF_GAMED)
    files = {p.name: {"size_bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in sorted(folder.iterdir())}
    write_json(folder / "asset.json", {"name": ALPACA_EVAL.name, "files": files})


def made_up_df_gamed(path: Path, order: np.ndarray | None = None) -> Path:
    """A file with the columns of df_gamed.csv: two gamed baselines, difficulties that matter; `order` permutes both."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 2, 805)
    blocks: list[dict[str, Any]] = []
    for model in ("concise", "verbose"):
        lengths = rng.normal(1 if model == "concise" else -1, 0.5, 805)
        preferences = 1 / (1 + np.exp(-difficulty - lengths))
        for i in range(805) if order is None else order:
            blocks.append(
                {
                    "model": model,
                    "index": i,
                    "std_delta_len": lengths[i],
                    "preference": preferences[i],
                    "instruction_difficulty": difficulty[i],
                    "not_gamed_baseline": False,
                }
            )
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(blocks[0]))
        writer.writeheader()
        writer.writerows(blocks)
    return path


def published_annotations(model: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_json(annotations_of(model))
    return rows


def annotation(n: int, preference: float | None = 1.25, **changes: Any) -> dict[str, Any]:
    return {
        "instruction": f"question {n}",
        "output_1": "the baseline's answer",
        "generator_1": "gpt4_1106_preview",
        "dataset": "koala",
        "output_2": "an answer" + n * "!",
        "generator_2": "ours",
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "preference": preference,
        **changes,
    }


SHOWN = re.compile(
    r'''"instruction": """(.*)""",\n}\n\n## Model Outputs.*"model_identifier": "m",\n        "output": """(.*)"""
    },
    {
        "model_identifier": "M",
        "output": """(.*)"""
    }
}
''',
    re.DOTALL,
)


def shown(prompt: str) -> tuple[str, str, str]:
    """Instruction and the two outputs, in the order in which a prompt shows them."""
    match = SHOWN.search(prompt)
    assert match, prompt
    instruction, first, second = match.groups()
    return instruction, first, second


def answers_to(benchmark: AlpacaEval, text: Callable[[int], str]) -> list[Answer]:
    return [Answer(question.id, (text(int(question.id)),)) for question in benchmark.questions]


def judged_by(judge: Judge, benchmark: AlpacaEval, answers: Sequence[Answer], **others: Any) -> AlpacaEvalJudged:
    return benchmark.judge("ours", answers, others.get("baseline"), judge, lambda *_: None)
