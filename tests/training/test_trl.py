"""Four optimiser steps from the same weights on the same pairs give the parameters that TRL's own trainers give."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aipo_lab.models.policy import Policy, load_policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import train_on_pairs
from aipo_lab.training.pairs import EncodedPair

pytest.importorskip("trl", reason="TRL is not installed (pip install 'aipo-lab[perf]')")
pytestmark = pytest.mark.filterwarnings("ignore")

N_PAIRS = 6
STEPS = 4
# Large enough that four steps move the weights by far more than the difference allowed.
LEARNING_RATE = 1e-3

MakePolicy = Callable[..., Policy]


def make_rows(tokenizer: Any, same_length: bool) -> list[dict[str, Any]]:
    """Conversational preference rows; with `same_length` all chosen responses have equally many tokens."""
    draw = random.Random(5)
    words = sorted(word for word in tokenizer.get_vocab() if word[:1] == " " and word[1:].isalpha())

    def message(role: str, low: int, high: int) -> list[dict[str, str]]:
        return [{"role": role, "content": "".join(draw.choices(words, k=draw.randint(low, high)))}]

    return [
        {
            "prompt": message("user", 2, 9),
            "chosen": message("assistant", *((7, 7) if same_length else (1, 12))),
            "rejected": message("assistant", 1, 12),
        }
        for _ in range(N_PAIRS)
    ]


def trl_arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": N_PAIRS,
        "num_train_epochs": STEPS,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 1,
        "max_grad_norm": 1.0,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def loaded_from(folder: Path, policy: Policy) -> Any:
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return load_policy(folder, "cpu", "float32").model


def encoded(rows: Any) -> list[EncodedPair]:
    """TRL's own token ids as pairs (each of its trainers names the columns its own way)."""
    pairs = []
    for number, row in enumerate(rows):
        prompt = row.get("prompt_ids") or row["prompt_input_ids"]
        chosen, rejected = (row.get(f"{role}_ids") or row[f"{role}_input_ids"] for role in ("chosen", "rejected"))
        if chosen[: len(prompt)] == prompt:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        pairs.append(EncodedPair(str(number), prompt, chosen, rejected))
    return pairs


def assert_same_weights(theirs: Any, ours: Any, start: Any) -> None:
    """Relative to the size of each parameter's own tensor; and training did something."""
    moved = 0.0
    for (name, their), our, first in zip(theirs.named_parameters(), ours.parameters(), start.parameters(), strict=True):
        difference = float((their - our).norm() / their.norm())
        assert difference < 1e-5, name
        moved = max(moved, float((our - first).norm() / first.norm()))
    assert moved > 1e-3


def train_ours(policy: Policy, pairs: list[EncodedPair], objective: str, **hyperparameters: float) -> None:
    settings = TrainSettings(
        learning_rate=LEARNING_RATE, batch_size=N_PAIRS, epochs=STEPS, warmup_ratio=0.1, micro_batch_tokens=60
    )
    built = get_objective(objective, **hyperparameters)
    reference = (
        None
        if built.reference_free
        else all_pair_logps(policy.model, pairs, policy.pad_token_id, 10_000, lambda *_: None)
    )
    train_on_pairs(policy, pairs, reference, built, settings, 0, lambda *_: None)


@pytest.mark.parametrize(
    ("objective", "hyperparameters", "loss"),
    [
        ("dpo", {"beta": 0.3}, {"loss_type": ["sigmoid"], "beta": 0.3}),
        ("aipo", {"beta": 0.3, "alpha": 0.0, "lambda_": 0.0}, {"loss_type": ["sigmoid"], "beta": 0.3}),
        (
            "dpo_nll",
            {"beta": 0.3, "alpha": 0.2},
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2], "beta": 0.3},
        ),
        ("ipo", {"beta": 0.1}, {"loss_type": ["ipo"], "beta": 0.1}),
    ],
)
def test_dpo_trainer(
    make_policy: MakePolicy, tmp_path: Path, objective: str, hyperparameters: dict[str, float], loss: dict[str, Any]
) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    start, policy = make_policy(), make_policy()
    # TRL takes the mean NLL over all chosen tokens of a batch, we per response: equal if they are equally long.
    data = Dataset.from_list(make_rows(policy.tokenizer, same_length=objective == "dpo_nll"))
    trainer = DPOTrainer(
        model=loaded_from(tmp_path / "model", start),  # TRL reads the reference from the folder a model came from
        args=DPOConfig(**trl_arguments(tmp_path), **loss),
        train_dataset=data,
        processing_class=policy.tokenizer,
    )
    pairs = encoded(trainer.train_dataset)
    trainer.train()
    train_ours(policy, pairs, objective, **hyperparameters)
    assert_same_weights(trainer.model, policy.model, start.model)


def test_simpo_of_the_cpo_trainer(make_policy: MakePolicy, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    start, policy = make_policy(), make_policy()
    trainer = CPOTrainer(
        model=copy.deepcopy(start.model),
        args=CPOConfig(
            **trl_arguments(tmp_path), loss_type="simpo", cpo_alpha=0.0, simpo_gamma=0.5, beta=2.0, max_length=512
        ),
        train_dataset=Dataset.from_list(make_rows(policy.tokenizer, same_length=False)),
        processing_class=policy.tokenizer,
    )
    pairs = encoded(trainer.train_dataset)
    trainer.train()
    train_ours(policy, pairs, "simpo", beta=2.0, gamma=0.5)
    assert_same_weights(trainer.model, policy.model, start.model)


def test_aipo_without_its_terms_is_dpo_to_the_last_bit(make_policy: MakePolicy) -> None:
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(6, 60, (N_PAIRS, 3, 7), generator=draw).tolist()
    pairs = [EncodedPair(str(number), *parts) for number, parts in enumerate(tokens)]
    one, other = make_policy(), make_policy()
    train_ours(one, pairs, "dpo", beta=0.2)
    train_ours(other, pairs, "aipo", beta=0.2, alpha=0.0, lambda_=0.0)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
