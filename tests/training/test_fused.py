"""Fused layers: gradients of plain formulas, the results of an architecture's own layers, and nothing left behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from aipo_lab.models.policy import Policy, load_policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.batches import collate
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.fused import products
from aipo_lab.training.fused.functions import EmbeddingRows, GatedMlp, Product, RmsNorm, Rotation, apply
from aipo_lab.training.fused.layers import fused_layers, is_fused
from aipo_lab.training.logprobs import all_pair_logps, pair_logps
from aipo_lab.training.loop import PairTrainer
from aipo_lab.training.pairs import EncodedPair

ROWS = [
    [EncodedPair("a", list(range(6, 26)), list(range(30, 42)), list(range(50, 55)))],
    [EncodedPair("b", list(range(8, 12)), list(range(20, 23)), list(range(40, 60)))],
]
SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "initializer_range": 0.3,
    "pad_token_id": 9,  # occurs in the prompts, as where the end token pads too: its row learns nothing as an input
}


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def rotation(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs (x_i, x_{i + D/2}) as complex numbers."""
    first, second = x.chunk(2, -1)
    rotated = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([rotated.real, rotated.imag], -1)


def gated_mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    opened = x @ gate.t()
    return (opened * torch.sigmoid(opened) * (x @ up.t())) @ down.t()


def fused_rotation(x: Tensor, angles: Tensor) -> Tensor:
    both = torch.cat([angles, angles], -1)
    return apply(Rotation, x, both.cos(), both.sin())


CASES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "rms_norm": (lambda x, w: apply(RmsNorm, x, w, 1e-5), rms_norm, ((2, 5, 6), (6,))),
    "gated_mlp": (lambda *given: apply(GatedMlp, *given), gated_mlp, ((2, 5, 6), (7, 6), (7, 6), (6, 7))),
    "product": (lambda *given: apply(Product, *given), functional.linear, ((2, 5, 6), (4, 6))),
    "rotation": (fused_rotation, rotation, ((2, 3, 5, 8), (2, 1, 5, 4))),
}


@pytest.mark.parametrize("case", CASES)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 30))
def test_values_and_gradients_are_those_of_the_formula(case: str, seed: int, scale: float) -> None:
    fused, formula, shapes = CASES[case]
    generator = torch.Generator().manual_seed(seed)
    drawn = [scale * torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    outcomes = []
    for function in (fused, formula):
        given_tensors = [
            one.clone().requires_grad_(case != "rotation" or not number) for number, one in enumerate(drawn)
        ]
        made = function(*given_tensors)
        made.backward(torch.randn(made.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1)))
        outcomes.append([made.detach(), *(one.grad for one in given_tensors if one.requires_grad)])
    for ours, expected in zip(*outcomes, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-9 * scale**3)


def test_rows_of_an_embedding_add_up_over_repeated_tokens_and_micro_batches() -> None:
    weight = torch.randn(6, 3, requires_grad=True)
    for _ in range(2):
        apply(EmbeddingRows, torch.tensor([[1, 4], [1, 1]]), weight, None).backward(torch.ones(2, 2, 3))
    assert weight.grad is not None
    assert weight.grad.sum(1).tolist() == [0, 18, 0, 0, 6, 0]
    apply(EmbeddingRows, torch.tensor([4, 5]), weight, 4).backward(torch.ones(2, 3))
    assert weight.grad.sum(1).tolist() == [0, 18, 0, 0, 6, 3]


def test_products_add_to_the_gradient_of_earlier_micro_batches() -> None:
    weight = torch.randn(2, 3, requires_grad=True)
    x = torch.randn(4, 3)
    for _ in range(2):
        apply(Product, x.clone().requires_grad_(), weight).sum().backward()
    assert torch.allclose(weight.grad, 2 * x.sum(0).expand(2, 3))


@pytest.mark.parametrize("by_onednn", [False, True])
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_products_are_those_of_torch_whichever_library_multiplies(
    by_onednn: bool, n: int, width: int, height: int, transposed: bool
) -> None:
    generator = torch.Generator().manual_seed(n + 10 * width + 100 * height)
    x = torch.randn(2, n, width, generator=generator)
    weight = torch.randn(*((width, height) if transposed else (height, width)), generator=generator)
    weight = weight.t() if transposed else weight
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "onednn_is_faster", lambda: by_onednn)
        made = products.product(x, weight)
    assert torch.allclose(made, functional.linear(x, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("by_onednn", [False, True])
def test_the_chosen_library_multiplies(monkeypatch: pytest.MonkeyPatch, by_onednn: bool) -> None:
    monkeypatch.setattr(products, "onednn_is_faster", lambda: by_onednn)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        products.product(torch.ones(2, 3), torch.ones(4, 3))
    assert ("mkldnn::_linear_pointwise" in {event.name for event in profile.events()}) == by_onednn


def test_the_choice_of_library_follows_from_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {}
    for name, avx512 in (("AMD EPYC", True), ("AMD EPYC", False), ("Intel Xeon", True)):
        told = {"cpu_name": name, "avx512_f": avx512}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        chosen[name, avx512] = products.onednn_is_faster.__wrapped__()
    assert chosen == {("AMD EPYC", True): True, ("AMD EPYC", False): False, ("Intel Xeon", True): False}


def test_layers_with_large_weights_are_fused_too() -> None:
    model = make_model("Llama", num_key_value_heads=2, hidden_size=512, intermediate_size=1024)
    torch.nn.utils.vector_to_parameters(3 * torch.nn.utils.parameters_to_vector(model.parameters()), model.parameters())
    with fused_layers(model):
        assert all(is_fused(layer.mlp) and is_fused(layer.input_layernorm) for layer in model.model.layers)


def make_model(architecture: str, **changes: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(**SMALL | changes)
    return getattr(transformers, f"{architecture}ForCausalLM")(config).eval()


def logps_and_gradients(model: Any, fused: bool) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    batch = collate(ROWS, 0, "cpu")
    with fused_layers(model, wanted=fused):
        for _ in range(2):  # gradients of micro-batches add up
            logps = pair_logps(model, batch)
            (logps * torch.tensor([[1.0, -0.7], [0.4, 2.0]])).sum().backward()
    return logps.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {"num_key_value_heads": 2},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "Qwen2": {"num_key_value_heads": 2, "tie_word_embeddings": True},  # biases in attention
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 8},  # norms of queries and keys
    "Gemma": {"num_key_value_heads": 1, "head_dim": 8},  # 1 + weight, GELU: not fused
    "GPTNeoX": {"rotary_pct": 0.5},  # rotates a part
    "Cohere": {"num_key_value_heads": 2},  # rotates neighbours
    "Phi3": {"num_key_value_heads": 2, "max_position_embeddings": 128},  # gate and up in one product
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_computes_what_it_did(architecture: str) -> None:
    model = make_model(architecture, **ARCHITECTURES[architecture])
    expected, expected_gradients = logps_and_gradients(model, fused=False)
    made, gradients = logps_and_gradients(model, fused=True)
    assert torch.allclose(made, expected, rtol=1e-5, atol=1e-4)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        assert (gradient - expected_gradients[name]).norm() <= 1e-4 * expected_gradients[name].norm(), name


@pytest.mark.parametrize(
    ("architecture", "kinds"),
    [
        ("Llama", {"Linear", "Embedding", "LlamaRMSNorm", "LlamaMLP"}),
        ("Qwen3", {"Linear", "Embedding", "Qwen3RMSNorm", "Qwen3MLP"}),
        ("Gemma", {"Linear"}),
    ],
)
def test_layers_are_fused_where_they_compute_the_same_and_are_themselves_again(
    architecture: str, kinds: set[str]
) -> None:
    model = make_model(architecture, **ARCHITECTURES[architecture])
    python_module = sys.modules[type(model).__module__]
    rotate = python_module.apply_rotary_pos_emb
    with fused_layers(model):
        found = {type(module).__name__ for module in model.modules() if is_fused(module)}
        assert python_module.apply_rotary_pos_emb is not rotate
    assert found == kinds
    assert python_module.apply_rotary_pos_emb is rotate
    assert not any("forward" in vars(module) or is_fused(module) for module in model.modules())


def test_frozen_and_watched_weights_are_left_to_autograd(make_policy: Callable[..., Policy]) -> None:
    model = make_policy().model
    frozen, watched = model.model.layers[0].self_attn.q_proj, model.model.layers[1].self_attn.q_proj
    frozen.weight.requires_grad_(False)
    seen: list[Tensor] = []
    watched.weight.register_hook(seen.append)
    with fused_layers(model):
        assert not is_fused(frozen)
        assert not is_fused(watched)
        assert is_fused(model.model.layers[1].self_attn.k_proj)
        pair_logps(model, collate(ROWS, 0, "cpu")).sum().backward()
    assert frozen.weight.grad is None
    assert torch.equal(seen[0], watched.weight.grad)


@pytest.mark.parametrize(("precision", "expected"), [("float32", True), ("bfloat16", False)])
def test_training_and_reference_compute_with_fused_layers_in_float32(
    make_policy: Callable[..., Policy], precision: Any, expected: bool
) -> None:
    policy, pairs = make_policy(), [pair for row in ROWS for pair in row]
    seen: list[bool] = []

    def look(*_: Any) -> None:
        seen.append(is_fused(policy.model.lm_head))

    reference = all_pair_logps(policy.model, pairs, policy.pad_token_id, 4096, look, precision)
    settings = TrainSettings(batch_size=1, precision=precision)
    PairTrainer(policy, pairs, reference, get_objective("dpo"), settings, 0).run(look)
    assert set(seen) == {expected}
    assert len(seen) >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_weights_in_training_do_not_lie_in_the_mapped_model_file(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    original = make_policy()
    original.model.save_pretrained(tmp_path)
    original.tokenizer.save_pretrained(tmp_path)
    policy, pairs = load_policy(tmp_path, "cpu", "float32"), [pair for row in ROWS for pair in row]
    assert in_mapped_file(policy.model, tmp_path), "transformers no longer maps: the copy can go"
    PairTrainer(policy, pairs, None, get_objective("simpo"), TrainSettings(batch_size=1), 0)
    assert not in_mapped_file(policy.model, tmp_path)


def in_mapped_file(model: Any, folder: Path) -> list[str]:
    """The parameters whose numbers lie in a mapping of a file below `folder`."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    return [
        name for name, one in model.named_parameters() if any(start <= one.data_ptr() < end for start, end in ranges)
    ]
