"""A training killed at any step continues from its checkpoint and ends with the same weights, bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

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
        assert [path.name for path in (tmp_path / "killed").glob("step-*")] == [f"step-{step:08d}"]
    assert train(tmp_path / "killed", tmp_path / "killed.safetensors") == 0
    whole, killed = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(whole[name].equal(killed[name]) for name in whole)
