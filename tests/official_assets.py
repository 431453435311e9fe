"""The data files of all three official benchmarks as if fetched, from `AIPO_LAB_ASSETS`."""

from __future__ import annotations

import os
from pathlib import Path

import alpaca_eval_files
import arena_hard_files
import pytest

KEY = "sk-planted-in-the-environment-41c7"


def install_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Place every official file where `aipo-lab assets fetch` would; skips the test without them."""
    cl100k = arena_hard_files.cl100k_folder()
    alpaca_eval_files.install_asset(cache, monkeypatch)
    mt_bench = Path(os.environ["AIPO_LAB_ASSETS"]) / "mt_bench"
    folders = {"arena_hard": arena_hard_files.official(), "cl100k_base": cl100k, "mt_bench": mt_bench}
    arena_hard_files.install(cache, monkeypatch, **folders)
