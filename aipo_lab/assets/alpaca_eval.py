"""AlpacaEval 2's data files: the questions with the baseline's answers, and the fits its length control needs.

Both come from the dataset tatsu-lab/alpaca_eval at one pinned revision; the official package takes the newest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aipo_lab.assets.asset import Asset, PinnedFile, Progress
from aipo_lab.assets.download import fetch_files

DATASET = "tatsu-lab/alpaca_eval"
REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
REFERENCE_OUTPUTS = "alpaca_eval_gpt4_baseline.json"
DF_GAMED = "df_gamed.csv"
SHA256 = {
    REFERENCE_OUTPUTS: "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4",
    DF_GAMED: "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d",
}


def build(folder: Path, progress: Progress) -> dict[str, Any]:
    """Download both files into `folder`; returns their origin. See `Asset.build` for errors."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    address = f"{endpoint}/datasets/{DATASET}/resolve/{REVISION}"
    files = [PinnedFile(name, f"{address}/{name}", sha256) for name, sha256 in SHA256.items()]
    return {**fetch_files(files, folder, progress), "dataset": DATASET, "revision": REVISION}


ALPACA_EVAL = Asset(
    name="alpaca-eval",
    description="AlpacaEval 2: 805 questions, GPT-4 Turbo's answers, data of the length control",
    licence="CC-BY-NC-4.0",
    size_bytes=2_050_000,
    source=f"huggingface.co/datasets/{DATASET}",
    build=build,
)
