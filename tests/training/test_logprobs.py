"""Log-probabilities in chunks: the same numbers and gradients as with all logits at once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aipo_lab.models.policy import Policy
from aipo_lab.training import token_logps as module
from aipo_lab.training.token_logps import token_logps


def loss_and_gradients(policy: Policy, hidden: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    """Log-probabilities, and the gradients of a weighted sum of them."""
    policy.model.zero_grad(set_to_none=True)
    hidden = hidden.clone().requires_grad_()
    logps = token_logps(policy.model, hidden, targets)
    (logps * torch.linspace(-1, 2, len(logps))).sum().backward()
    return [logps.detach(), hidden.grad, policy.model.get_output_embeddings().weight.grad.clone()]


@pytest.fixture
def inputs(policy: Policy) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    width, vocabulary = policy.model.config.hidden_size, policy.model.config.vocab_size
    return torch.randn(23, width, generator=generator), torch.randint(0, vocabulary, (23,), generator=generator)


@pytest.mark.parametrize("chunk_tokens", [1, 5, 22])
def test_chunks_equal_the_whole_and_so_do_their_gradients(
    make_policy: Callable[..., Policy], inputs: Any, monkeypatch: pytest.MonkeyPatch, chunk_tokens: int
) -> None:
    policy = make_policy()
    whole = loss_and_gradients(policy, *inputs)
    monkeypatch.setattr(module, "CHUNK_LOGITS", chunk_tokens * policy.model.config.vocab_size)
    sizes: list[int] = []
    inner = module._exponentials
    monkeypatch.setattr(module, "_exponentials", lambda h, w, t: (sizes.append(len(t)), inner(h, w, t))[1])
    chunked = loss_and_gradients(policy, *inputs)
    assert max(sizes) == chunk_tokens
    for one, other in zip(whole, chunked, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cached_logits", [1, 200, 1 << 19])
def test_gradients_are_those_of_the_log_softmax(
    make_policy: Callable[..., Policy], inputs: Any, monkeypatch: pytest.MonkeyPatch, cached_logits: int
) -> None:
    monkeypatch.setattr(module, "CACHED_LOGITS", cached_logits)
    policy = make_policy()
    made = loss_and_gradients(policy, *inputs)
    monkeypatch.setattr(module, "_is_plain", lambda *_: False)
    for one, other in zip(made, loss_and_gradients(policy, *inputs), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_second_backward_pass_gives_the_same_gradients(make_policy: Callable[..., Policy], inputs: Any) -> None:
    hidden, targets = inputs
    hidden = hidden.clone().requires_grad_()
    logps = token_logps(make_policy().model, hidden, targets)
    first, second = (torch.autograd.grad(logps.sum(), hidden, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_they_are_the_log_softmax_of_the_models_logits(policy: Policy, inputs: Any) -> None:
    hidden, targets = inputs
    with torch.no_grad():
        expected = policy.model.lm_head(hidden).double().log_softmax(-1)[torch.arange(len(targets)), targets]
        made = token_logps(policy.model, hidden, targets)
    assert torch.allclose(made.double(), expected, atol=1e-5)
    assert made.dtype == torch.float32


def test_logits_far_from_zero_do_not_overflow(make_policy: Callable[..., Policy], inputs: Any) -> None:
    hidden, targets = inputs
    with torch.no_grad():
        made = token_logps(make_policy().model, hidden * 1e4, targets)
    assert torch.isfinite(made).all()
    assert (made <= 0).all()


@pytest.mark.parametrize(
    ("config", "change"),
    [
        ({"final_logit_softcapping": 2.0}, lambda logits: 2.0 * torch.tanh(logits / 2.0)),
        ({"logit_scale": 0.25}, lambda logits: logits * 0.25),
        ({"logits_scaling": 4.0}, lambda logits: logits / 4.0),
    ],
)
def test_what_an_architecture_does_to_its_logits_is_done(
    policy: Policy, inputs: Any, config: dict[str, float], change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    hidden, targets = inputs
    model = SimpleNamespace(get_output_embeddings=policy.model.get_output_embeddings, config=SimpleNamespace(**config))
    with torch.no_grad():
        expected = change(policy.model.lm_head(hidden)).log_softmax(-1)[torch.arange(len(targets)), targets]
        assert torch.allclose(token_logps(model, hidden, targets), expected, atol=1e-5)
