"""Drawing tokens: the shares are those of transformers' own processors, and a row's own numbers alone decide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from aipo_lab.core.errors import StageFailed
from aipo_lab.generation.continuous.drawing import draw
from aipo_lab.generation.engine import SamplingConfig

VOCABULARY = 3000
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.3},
    {"temperature": 3.0},
    {"top_k": 5},
    {"top_k": 200},
    {"top_p": 0.7},
    {"top_p": 0.999},
    {"min_p": 0.1},
    {"min_p": 1e-5},
    {"repetition_penalty": 1.8},
    {"temperature": 1.5, "top_k": 50, "top_p": 0.8, "min_p": 0.02, "repetition_penalty": 1.2},
    {"temperature": 2.0, "top_k": 1500, "top_p": 0.99},
]


def random_logits(rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, VOCABULARY, generator=generator)


def shares_by_transformers(logits: torch.Tensor, seen: list[int], sampling: SamplingConfig) -> torch.Tensor:
    """Probabilities after the processors in the order in which `generate` applies them."""
    processors: list[Any] = []
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        processors.append(MinPLogitsWarper(sampling.min_p))
    scores = LogitsProcessorList(processors)(torch.tensor([seen]), logits.clone())
    return scores[0].double().softmax(-1)


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_uniform_numbers_give_the_shares_of_transformers_own_processors(changes: dict[str, Any]) -> None:
    sampling = SamplingConfig(**changes)
    logits, seen = random_logits(1), [5, 17, 17, 230]
    steps = 4000
    uniforms = [(step + 0.5) / steps for step in range(steps)]
    drawn = draw(logits.repeat(steps, 1), sampling, uniforms, [seen] * steps)
    shares = torch.bincount(drawn, minlength=VOCABULARY) / steps
    expected = shares_by_transformers(logits, seen, sampling)
    assert float((shares - expected).abs().max()) < 1.01 / steps  # evenly spread numbers miss by one step at most
    assert not bool((shares[expected == 0] > 0).any())


def test_a_row_is_drawn_alone_as_in_company() -> None:
    logits = random_logits(30)
    uniforms = torch.rand(30, generator=torch.Generator().manual_seed(1)).tolist()
    for changes in SETTINGS:
        sampling = SamplingConfig(**changes)
        seen = [[place, 2 * place] for place in range(30)]
        together = draw(logits.clone(), sampling, uniforms, seen).tolist()
        alone = [draw(logits[i : i + 1].clone(), sampling, uniforms[i : i + 1], seen[i : i + 1]) for i in range(30)]
        assert together == [int(one) for one in alone]


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_extremes_of_the_uniform_numbers_draw_possible_tokens(uniform: float) -> None:
    for changes in SETTINGS:
        sampling = SamplingConfig(**changes)
        token = int(draw(random_logits(1), sampling, [uniform], [[5]]))
        assert shares_by_transformers(random_logits(1), [5], sampling)[token] > 0


@pytest.mark.parametrize("temperature", [1e-30, 1e-4, 10.0])
def test_extreme_temperatures_are_drawn_from_without_overflow(temperature: float) -> None:
    token = int(draw(random_logits(1), SamplingConfig(temperature=temperature), [0.5], [[]]))
    assert temperature > 1 or token == int(random_logits(1).argmax())


def test_rounding_changes_next_to_no_token() -> None:
    logits = random_logits(4000)
    uniforms = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).tolist()
    noise = 1e-5 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    one = draw(logits.clone(), SamplingConfig(), uniforms, [])
    other = draw(logits + noise, SamplingConfig(), uniforms, [])
    assert int((one != other).sum()) <= 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(value: float) -> None:
    logits = random_logits(3)
    logits[1, 7] = value
    with pytest.raises(StageFailed, match="not finite"):
        draw(logits, SamplingConfig(), [0.5] * 3, [])


def test_the_order_is_that_of_generate() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    config = GenerationConfig(do_sample=True, temperature=2.0, top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=1.1)
    processors = model._get_logits_processor(config, input_ids_seq_length=1, encoder_input_ids=torch.tensor([[1]]))
    assert [type(one).__name__ for one in processors] == [
        "RepetitionPenaltyLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
    ]
