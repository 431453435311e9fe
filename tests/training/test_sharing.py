"""Whether prompts may be shared: rows with separate prompts give the same, and architectures that cannot are told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aipo_lab.models.policy import Policy
from aipo_lab.training import logprobs
from aipo_lab.training.batches import Sharing, collate
from aipo_lab.training.logprobs import find_sharing, pair_logps
from aipo_lab.training.pairs import EncodedPair

ROWS = [
    [EncodedPair("a", list(range(6, 26)), list(range(30, 42)), list(range(50, 55)))],
    [EncodedPair("b", list(range(8, 12)), list(range(20, 23)), list(range(40, 70)))],
]
PAIRS = [pair for row in ROWS for pair in row]


@pytest.mark.parametrize("sharing", [Sharing.LAYOUT, Sharing.MASK])
def test_separate_rows_give_the_same_log_probabilities(policy: Policy, sharing: Sharing) -> None:
    shared, separate = (collate(ROWS, policy.pad_token_id, "cpu", one) for one in (sharing, Sharing.NONE))
    assert shared.input_ids.shape[0] == (1 if sharing is Sharing.LAYOUT else 2)
    assert separate.input_ids.shape[0] == 4
    with torch.no_grad():
        made = [pair_logps(policy.model, batch) for batch in (shared, separate)]
    assert torch.allclose(*made, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("sharing", [Sharing.LAYOUT, Sharing.MASK])
def test_gradients_of_shared_rows_are_those_of_separate_ones(policy: Policy, sharing: Sharing) -> None:
    gradients = []
    for one in (sharing, Sharing.NONE):
        logps = pair_logps(policy.model, collate(ROWS, policy.pad_token_id, "cpu", one))
        weighted = (logps * torch.tensor([[1.0, -0.7], [0.4, 2.0]])).sum()
        gradients.append(torch.autograd.grad(weighted, list(policy.model.parameters())))
    for together, apart in zip(*gradients, strict=True):
        assert (together - apart).norm() <= 1e-5 * apart.norm()


def test_a_llama_shares_by_layout(policy: Policy) -> None:
    assert find_sharing(policy.model, PAIRS, policy.pad_token_id) is Sharing.LAYOUT


def test_a_model_is_tried_once_for_each_attention(make_policy: Any) -> None:
    model = make_policy(seed=5).model
    passes: list[object] = []
    model.model.register_forward_pre_hook(lambda *given: passes.append(given))
    found = [find_sharing(model, PAIRS, 0)]
    n_tried = len(passes)
    found.append(find_sharing(model, PAIRS, 0))
    assert len(passes) == n_tried > 0
    model.set_attn_implementation("eager")
    assert [*found, find_sharing(model, PAIRS, 0)] == [Sharing.LAYOUT, Sharing.LAYOUT, Sharing.MASK]


def test_attention_without_layouts_shares_by_mask() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    shape = Gemma2Config(num_hidden_layers=2, head_dim=8, attn_logit_softcapping=5.0, **SMALL)
    model = Gemma2ForCausalLM(shape).eval()
    assert find_sharing(model, PAIRS, 0) is Sharing.MASK
    with torch.no_grad():
        together, apart = (pair_logps(model, collate(ROWS, 0, "cpu", one)) for one in (Sharing.MASK, Sharing.NONE))
    assert torch.allclose(together, apart, rtol=1e-5, atol=1e-4)


def test_transformers_own_attention_is_as_before(policy: Policy) -> None:
    ids = torch.tensor([PAIRS[0].prompt, PAIRS[0].prompt[::-1]])
    pair_logps(policy.model, collate(ROWS, policy.pad_token_id, "cpu"))  # from here on it can read layouts
    with torch.no_grad():
        both = policy.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        policy.model.set_attn_implementation("eager")
        expected = policy.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        policy.model.set_attn_implementation("sdpa")
    assert torch.allclose(both, expected, atol=1e-5)


@pytest.mark.parametrize(("window", "expected"), [(16, Sharing.NONE), (34, Sharing.LAYOUT), (4096, Sharing.LAYOUT)])
def test_a_sliding_window_that_cuts_a_sequence_does_not(window: int, expected: Sharing) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(sliding_window=window, num_hidden_layers=2, **SMALL)).eval()
    assert find_sharing(model, PAIRS, 0) is expected
    if expected is not Sharing.NONE:
        with torch.no_grad():
            together, apart = (pair_logps(model, collate(ROWS, 0, "cpu", one)) for one in (expected, Sharing.NONE))
        assert torch.allclose(together, apart, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("window", [16, 30])
def test_a_window_that_no_configuration_tells_of_is_found_by_trying(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    monkeypatch.setattr(logprobs, "attention_window_tokens", lambda _: None)
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(sliding_window=window, num_hidden_layers=2, **SMALL)).eval()
    assert find_sharing(model, PAIRS, 0) is Sharing.NONE


def test_trying_computes_the_longest_sequence_twice_and_little_else(make_policy: Any) -> None:
    model = make_policy(seed=6).model
    tokens: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _module, _given, named: tokens.append(named["input_ids"].numel()), with_kwargs=True
    )
    long = EncodedPair("long", list(range(6, 66)), list(range(6, 66)) * 2, list(range(6, 66)) * 3)
    assert find_sharing(model, [*PAIRS, long], 0) is Sharing.LAYOUT
    assert sum(tokens) < 2.6 * long.longest_sequence_tokens


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
    assert find_sharing(model.eval(), PAIRS, 0) is Sharing.NONE


SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
