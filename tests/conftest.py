"""Shared fixtures: torch on one thread, a tokenizer, tiny policies, a tiny trained base model, and stages run on
hand-made inputs.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.models.policy import Policy
from aipo_lab.stages.definition import StageNode, get_stage, run_stage

# The machine that runs the tests may be busy: slowness is no failure of a property.
settings.register_profile("lab", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.load_profile("lab")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The micro world's tokenizer."""
    from aipo_lab.worlds.micro.tokenizer import build_tokenizer

    return build_tokenizer()


@pytest.fixture(scope="session")
def make_policy(tokenizer: Any) -> Callable[..., Policy]:
    """Makes policies with random weights: the same `seed` and `dtype` give the same weights."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    def make(seed: int = 0, dtype: str = "float32") -> Policy:
        special = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        shape = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            initializer_range=0.3,  # far from uniform, so that a wrong position or mask shows
            **special,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(shape)
        model.generation_config = GenerationConfig(**special)
        return Policy(model.to(getattr(torch, dtype)).eval(), tokenizer)

    return make


@pytest.fixture(scope="session")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    """One random policy, for tests that do not change its weights."""
    return make_policy()


@pytest.fixture(scope="session")
def base_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny micro base model, trained far enough to end its responses and to write some instructions."""
    from aipo_lab.worlds.micro.base_model import MicroBaseConfig, build_base_model

    folder = tmp_path_factory.mktemp("base") / "model"
    config = MicroBaseConfig(
        hidden_size=64, layers=2, mlp_size=128, steps=60, batch_size=48, documents_per_step=8, learning_rate=8e-3
    )
    build_base_model(config, folder, lambda *_: None)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The official benchmarks' files as if fetched, and a planted key for the judge."""
    from official_assets import KEY, install_all

    for name in ("AIPO_LAB_JUDGE_MODEL", "OPENAI_BASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    install_all(tmp_path / "cache", monkeypatch)
    return tmp_path / "cache"


@pytest.fixture
def put_artifact(store: Store) -> Callable[..., str]:
    """Publishes an artifact of JSON-lines files (lists) and linked folders (paths); returns its reference."""
    numbers = itertools.count()

    def put(stage: str, files: Mapping[str, list[dict[str, Any]] | Path]) -> str:
        def build(folder: Path) -> dict[str, Any]:
            for name, content in files.items():
                if isinstance(content, Path):
                    (folder / name).symlink_to(content)
                else:
                    write_jsonl(folder / name, content)
            return {}

        request = ArtifactRequest(stage, 0, {"number": next(numbers)}, {})
        return f"{stage}/{store.make(request, build).key}"

    return put


@pytest.fixture
def run_stage_on(store: Store, put_artifact: Callable[..., str]) -> Callable[..., Any]:
    """Runs a stage on `inputs` (files by input name); returns the rows of its `output` and its summary."""

    def run(
        stage: str, config: Mapping[str, Any], inputs: Mapping[str, Mapping[str, Any]], output: str
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        references = {name: put_artifact("input", files) for name, files in inputs.items()}
        request = ArtifactRequest(stage, get_stage(stage).version, config, references)
        artifact = run_stage(StageNode(request), store, lambda *_: None)
        return read_jsonl(artifact.file(output)), artifact.summary

    return run


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished tiny sweep in `runs/tiny`, its store in `runs/store`. Copy it before changing it."""
    from small_sweep import run_small_sweep

    folder = tmp_path_factory.mktemp("finished")
    run_small_sweep(folder)
    return folder
