"""A training killed at any step continues from its checkpoint and ends with the same weights, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from aipo_lab.training.checkpoint import TrainingCheckpoints

# Trains a tiny model on fixed pairs with a checkpoint after every step; dies by SIGKILL after `kill_at` of them.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from aipo_lab.models.policy import Policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.checkpoint import TrainingCheckpoints
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.loop import train_on_pairs

folder, out, kill_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True)).eval()
class Tokenizer:
    eos_token_id, pad_token_id = 1, 0
pairs = [EncodedPair(str(i), [3 + i, 9], [5 + i, 7, 1], [20 + i, 30, 40, 1]) for i in range(20)]
def progress(done, total, unit):
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
settings = TrainSettings(learning_rate=1e-2, batch_size=4, epochs=2)
curve = train_on_pairs(Policy(model, Tokenizer()), pairs, torch.zeros(20, 2), get_objective("aipo"), settings, 0,
    progress, TrainingCheckpoints(folder, interval_s=0))
assert len(curve) == 10 and [row["step"] for row in curve] == list(range(1, 11))
save_file({name: weights.detach() for name, weights in model.named_parameters()}, out)
"""


def train(folder: Path, out: Path, kill_at: int = -1) -> int:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(out), str(kill_at)]
    return subprocess.run(command, timeout=120).returncode


@pytest.mark.timeout(240)
def test_killed_trainings_end_with_the_same_weights(tmp_path: Path) -> None:
    assert train(tmp_path / "whole", tmp_path / "whole.safetensors") == 0
    for step in (1, 4, 9):
        assert train(tmp_path / "killed", tmp_path / "killed.safetensors", kill_at=step) == -signal.SIGKILL
        kept = sorted(path.name for path in (tmp_path / "killed").iterdir())
        assert kept == [f"step-{number:08d}" for number in (step - 1, step) if number]
    assert train(tmp_path / "killed", tmp_path / "killed.safetensors") == 0
    assert_equal(tmp_path / "whole.safetensors", tmp_path / "killed.safetensors")


def assert_equal(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "torn weights": lambda folder: os.truncate(folder / "model.safetensors", 100),
    "other weights": lambda folder: flip_a_byte(folder / "model.safetensors"),
    "other moments": lambda folder: flip_a_byte(folder / "optimizer.safetensors"),
    "no schedule": lambda folder: (folder / "schedule.json").unlink(),
    "torn state": lambda folder: os.truncate(folder / "state.json", 50),
    "empty state": lambda folder: (folder / "state.json").write_text(""),
    "state of another kind": lambda folder: (folder / "state.json").write_text("[]"),
    "no state": lambda folder: (folder / "state.json").unlink(),
}


@pytest.mark.timeout(280)
def test_a_damaged_checkpoint_is_dropped_for_the_one_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, folder = tmp_path / "whole.safetensors", tmp_path / "killed"
    assert train(folder, whole, kill_at=6) == -signal.SIGKILL
    for name, damage in DAMAGES.items():
        copy = Path(shutil.copytree(folder, tmp_path / name))
        damage(copy / "step-00000006")
        caplog.clear()
        assert TrainingCheckpoints(copy, 0)._newest_whole() == 5, name
        (message,) = [record.getMessage() for record in caplog.records]
        assert "step-00000006 is damaged and dropped" in message
        assert [path.name for path in copy.iterdir()] == ["step-00000005"]
    assert train(tmp_path / "untouched", whole) == 0
    assert train(tmp_path / "other moments", tmp_path / "again.safetensors") == 0
    assert_equal(whole, tmp_path / "again.safetensors")
    for path in folder.iterdir():
        (path / "state.json").unlink()
    assert train(folder, tmp_path / "again.safetensors") == 0  # from the start
    assert_equal(whole, tmp_path / "again.safetensors")
