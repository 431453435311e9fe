"""Training never changes what a model computes: no dropout, with gradient checkpointing or without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.policy import Policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.memory import gradient_checkpointing
from aipo_lab.training.pairs import EncodedPair

PAIRS = [EncodedPair(str(i), [3 + i, 9, 10], [*[5 + i, 7, 11][: 1 + i % 3], 2], [20 + i, 30, 40, 2]) for i in range(8)]
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
MODELS: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5},
    "Llama": {"attention_dropout": 0.5, **LAYERS},  # by a flag of the attention, no module
    "OPT": {"dropout": 0.5, "ffn_dim": 64, "word_embed_proj_dim": 32, **LAYERS},  # by a flag of the layer
    "Phi": {"attention_dropout": 0.5, "resid_pdrop": 0.5, **LAYERS},
    "Mixtral": {"attention_dropout": 0.5, "router_jitter_noise": 0.5, "num_key_value_heads": 2, **LAYERS},
}


class _Tokenizer:
    eos_token_id, pad_token_id = 2, 0


def dropping(name: str) -> Policy:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(vocab_size=64, **ENDS, **MODELS[name])
    return Policy(transformers.AutoModelForCausalLM.from_config(config).eval(), _Tokenizer())


def trained(name: str, checkpointing: bool) -> tuple[PairTrainer, list[dict[str, float]]]:
    policy = dropping(name)
    settings = TrainSettings(
        learning_rate=1e-3, batch_size=4, epochs=2, warmup_ratio=0.0, gradient_checkpointing=checkpointing
    )
    reference = all_pair_logps(policy.model, PAIRS, 0, 4096, lambda *_: None)
    trainer = PairTrainer(policy, PAIRS, reference, get_objective("dpo"), settings, 0)
    return trainer, trainer.run(lambda *_: None)


@pytest.mark.parametrize("name", MODELS)
def test_losses_with_and_without_checkpointing_are_equal(name: str) -> None:
    plain, curve = trained(name, checkpointing=False)
    saving, saving_curve = trained(name, checkpointing=True)
    assert curve[0]["reference_gap_max"] < 1e-4 > saving_curve[0]["reference_gap_max"]
    for one, other in zip(curve, saving_curve, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)
    weights = zip(plain.policy.model.parameters(), saving.policy.model.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in weights) < 1e-5


def test_layers_are_computed_again_in_the_backward_pass_and_not_afterwards() -> None:
    model = dropping("Llama").model
    calls: list[int] = []
    attention = model.model.layers[0].self_attn
    attention.register_forward_pre_hook(lambda *_: calls.append(1))
    ids = torch.tensor([[1, 5, 6]])
    for wanted, expected in ((True, 2), (False, 1)):
        calls.clear()
        with gradient_checkpointing(model, wanted):
            model(input_ids=ids, use_cache=False).logits.sum().backward()
        assert len(calls) == expected
    assert not model.training


def test_a_model_without_such_layers_is_refused() -> None:
    with (
        pytest.raises(StageFailed, match=r"train\.gradient_checkpointing: Linear has no layers"),
        gradient_checkpointing(torch.nn.Linear(2, 2), wanted=True),
    ):
        pass
