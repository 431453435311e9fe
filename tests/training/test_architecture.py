"""Composite and sliding-window models: their text section is read, and log-probabilities are the model's own."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from aipo_lab.core.errors import StageFailed
from aipo_lab.training.architecture import attention_window_tokens, find_logit_scaling
from aipo_lab.training.batches import Sharing
from aipo_lab.training.logprobs import all_pair_logps, find_sharing
from aipo_lab.training.pairs import EncodedPair

VOCABULARY = 300
WINDOW = 8
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
WINDOWED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
IMAGES = {"mm_tokens_per_image": 4, "image_token_index": 299, "boi_token_index": 298, "eoi_token_index": 297}


def composite(**text: Any) -> Gemma3Config:
    return Gemma3Config(text_config=TEXT | WINDOWED | text, vision_config=VISION, **IMAGES)


CONFIGS = {
    "gemma3 composite": composite(),
    "gemma3 composite with a cap it ignores": composite(final_logit_softcapping=5.0),
    "gemma3 text": Gemma3TextConfig(**TEXT, **WINDOWED, final_logit_softcapping=5.0),
    "gemma2": Gemma2Config(**TEXT, **WINDOWED, final_logit_softcapping=5.0),
    "mistral": MistralConfig(**TEXT, sliding_window=WINDOW),
    "cohere2": Cohere2Config(**TEXT, **WINDOWED, logit_scale=0.25),
    "granite": GraniteConfig(**TEXT, logits_scaling=4.0),
}


def make(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).float().eval()


def pairs_of(n_tokens: int) -> list[EncodedPair]:
    """Two pairs with responses of so many tokens, and prompts of two and three."""
    draw = random.Random(n_tokens)

    def tokens(n: int) -> list[int]:
        return [draw.randrange(3, 290) for _ in range(n)]

    return [EncodedPair(str(n), tokens(n), tokens(n_tokens), tokens(n_tokens)) for n in (2, 3)]


def own_logps(model: Any, pairs: list[EncodedPair]) -> torch.Tensor:
    """From the model's own logits, one sequence at a time."""
    rows = []
    for pair in pairs:
        for response in (pair.chosen, pair.rejected):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([pair.prompt + response])).logits[0]
            logps = logits[len(pair.prompt) - 1 : -1].log_softmax(-1)
            rows.append(float(logps[range(len(response)), response].double().sum()))
    return torch.tensor(rows).view(-1, 2)


@pytest.mark.parametrize("n_tokens", [4, 20])
@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_are_the_models_own(name: str, n_tokens: int) -> None:
    model = make(CONFIGS[name])
    short, asked = pairs_of(4), pairs_of(n_tokens)
    all_pair_logps(model, short, 0, 4096, lambda *_: None)  # what a trial found for short pairs is not kept for long
    made = all_pair_logps(model, asked, 0, 4096, lambda *_: None)
    assert torch.allclose(made, own_logps(model, asked), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (composite(), WINDOW),
        (MistralConfig(**TEXT, sliding_window=WINDOW), WINDOW),
        (MistralConfig(**TEXT, sliding_window=None), None),
        (LlamaConfig(**TEXT), None),
        (Qwen2Config(**TEXT, sliding_window=WINDOW, use_sliding_window=False), None),
        (composite(layer_types=["full_attention"] * 4), None),
        (SimpleNamespace(attention_chunk_size=16, sliding_window=None), 16),
    ],
)
def test_the_window_is_found_where_the_model_has_it(config: Any, expected: int | None) -> None:
    if isinstance(config, SimpleNamespace):
        config.get_text_config = lambda: config
    assert attention_window_tokens(SimpleNamespace(config=config)) == expected


@pytest.mark.parametrize("name", ["gemma3 composite", "mistral"])
def test_a_window_of_8_shares_at_length_6_and_not_at_length_22(name: str) -> None:
    model = make(CONFIGS[name])
    assert find_sharing(model, pairs_of(3), 0) is Sharing.LAYOUT  # prompts of up to 3
    assert find_sharing(model, pairs_of(19), 0) is Sharing.NONE
    assert find_sharing(model, pairs_of(3), 0) is Sharing.LAYOUT  # whatever was tried before


def test_a_window_that_no_setting_names_is_found_by_trying() -> None:
    model = make(MistralConfig(**TEXT, sliding_window=None))
    original = model.model.forward

    def windowed(*given: Any, **named: Any) -> Any:
        model.config.sliding_window = 20  # only while it computes
        try:
            return original(*given, **named)
        finally:
            model.config.sliding_window = None

    model.model.forward = windowed
    assert find_sharing(model, pairs_of(15), 0) is Sharing.LAYOUT
    assert find_sharing(model, pairs_of(40), 0) is Sharing.NONE


def test_logits_changed_in_an_unknown_way_are_refused() -> None:
    model = make(LlamaConfig(**TEXT))
    original = model.forward

    def changed(*given: Any, **named: Any) -> Any:
        made = original(*given, **named)
        made.logits = made.logits * 0.5
        return made

    model.forward = changed
    with pytest.raises(StageFailed, match="LlamaForCausalLM changes its logits in a way that is not known here"):
        find_logit_scaling(model, [5, 6, 7])


def test_a_composite_model_trains_its_language_model_alone() -> None:
    from aipo_lab.models.policy import Policy
    from aipo_lab.objectives import get_objective
    from aipo_lab.training.config import TrainSettings
    from aipo_lab.training.loop import PairTrainer

    model = make(CONFIGS["gemma3 composite"])
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    pairs = [*pairs_of(4), *pairs_of(20)]
    tokenizer = SimpleNamespace(eos_token_id=2, pad_token_id=0)
    settings = TrainSettings(batch_size=2, warmup_ratio=0.0, learning_rate=1e-3, weight_decay=0.1)
    reference = all_pair_logps(model, pairs, 0, 8192, lambda *_: None)
    trainer = PairTrainer(Policy(model, tokenizer), pairs, reference, get_objective("dpo"), settings, 0)
    (first, *_) = trainer.run(lambda *_: None)
    assert first["reference_gap_max"] < 1e-3
    changed = {name for name, one in model.named_parameters() if not one.equal(before[name])}
    assert changed
    assert all("language_model" in name for name in changed)
