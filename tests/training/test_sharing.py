"""Whether prompts may be shared: rows with separate prompts give the same, and architectures that cannot are told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aipo_lab.models import Policy
from aipo_lab.training.batches import collate
from aipo_lab.training.logprobs import can_share_prompts, pair_logps
from aipo_lab.training.pairs import EncodedPair

ROWS = [
    [EncodedPair("a", list(range(6, 26)), list(range(30, 42)), list(range(50, 55)))],
    [EncodedPair("b", list(range(8, 12)), list(range(20, 23)), list(range(40, 70)))],
]
PAIRS = [pair for row in ROWS for pair in row]


def test_separate_rows_give_the_same_log_probabilities(policy: Policy) -> None:
    shared, separate = (collate(ROWS, policy.pad_token_id, "cpu", shared) for shared in (True, False))
    assert shared.input_ids.shape[0] == 2
    assert separate.input_ids.shape[0] == 4
    with torch.no_grad():
        made = [pair_logps(policy.model, batch) for batch in (shared, separate)]
    assert torch.allclose(*made, rtol=1e-6, atol=1e-5)


def test_a_llama_shares(policy: Policy) -> None:
    assert can_share_prompts(policy.model, PAIRS, policy.pad_token_id)


@pytest.mark.parametrize(("window", "expected"), [(16, False), (34, True), (4096, True)])
def test_a_sliding_window_that_cuts_a_sequence_does_not(window: int, expected: bool) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(sliding_window=window, num_hidden_layers=2, **SMALL)).eval()
    assert can_share_prompts(model, PAIRS, 0) is expected
    if expected:
        with torch.no_grad():
            together, apart = (pair_logps(model, collate(ROWS, 0, "cpu", shared)) for shared in (True, False))
        assert torch.allclose(together, apart, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("architecture", ["Mamba", "Bloom"])
def test_an_architecture_without_masks_or_positions_does_not(architecture: str) -> None:
    import transformers

    model: Any = getattr(transformers, f"{architecture}ForCausalLM")(
        getattr(transformers, f"{architecture}Config")(
            vocab_size=128, hidden_size=32, num_hidden_layers=2, n_layer=2, n_head=4, state_size=8, pad_token_id=0
        )
    )
    torch.manual_seed(0)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    assert not can_share_prompts(model.eval(), PAIRS, 0)


SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
