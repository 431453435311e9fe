"""`aipo-lab evaluate` of a model that a server answers for: what a user is told when it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from generation.completion_server import MODEL, CompletionServer
from model_variants import make_variant
from official_assets import install_all

from aipo_lab.models.policy import load_policy

KEY = "sk-planted-secret-0123456789"
TIMEOUT_S = 2.0
ATTEMPTS = 2


@pytest.mark.slow  # a program of its own for each case, which waits out timeouts
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("unauthorized", "check the key in the environment variable OPENAI_API_KEY"),
        ("hang", f"no answer within {TIMEOUT_S:g} s (tried {ATTEMPTS} times)"),
    ],
)
def test_the_failed_stage_and_the_reason_are_told_and_the_key_is_not(
    fault: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_all(tmp_path / "cache", monkeypatch)
    folder = make_variant(tmp_path / "model", generation_config={"eos_token_id": 2})
    with CompletionServer(load_policy(folder, "cpu", "float32"), folder, fault=lambda body, n: fault) as server:
        settings = {
            "engine.name": "openai",
            "engine.model": MODEL,
            "engine.base_url": server.base_url,
            "engine.timeout_s": TIMEOUT_S,
            "engine.attempts": ATTEMPTS,
            "engine.backoff_s": 0.1,
            "benchmarks.mt_bench.max_new_tokens": 8,
        }
        done = subprocess.run(
            [
                *(sys.executable, "-m", "aipo_lab", "evaluate", "--model", str(folder)),
                *("--benchmarks", "mt_bench", "--limit", "2", "--judge", "gpt-4", "--out", str(tmp_path / "out")),
                *("--store", str(tmp_path / "store")),
                *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
            ],
            env=os.environ | {"OPENAI_API_KEY": KEY, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=280,
        )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed answer_official of mt_bench" in done.stderr and told in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
