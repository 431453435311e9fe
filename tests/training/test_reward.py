"""Training reward models: the loss by hand, accuracy that rises, and conversations as the ranker reads them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aipo_lab.core.errors import StageFailed
from aipo_lab.models.template import ChatSettings
from aipo_lab.ranking.ranker import RANKERS, RankerContext
from aipo_lab.training.reward import RewardTrainSettings, margin_metrics, measure_margins, train_reward_model
from aipo_lab.training.reward_pairs import (
    ConversationPair,
    encode_conversations,
    ranked_pairs,
    read_pairs,
    split_pairs,
)

PROMPT = "What is the color of the fox?"
GOOD, BAD = "The color of the fox is red.", "That is worth knowing."


def pair(number: int = 0, chosen: str = GOOD, rejected: str = BAD) -> ConversationPair:
    return ConversationPair(f"{number}", ({"role": "user", "content": f"{PROMPT}{' ' * number}"},), chosen, rejected)


@pytest.fixture
def make_model(tokenizer: Any) -> Callable[..., Any]:
    def make(seed: int = 0) -> Any:
        from transformers import LlamaConfig, LlamaForSequenceClassification

        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=1,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForSequenceClassification(config)

    return make


def encoded(pairs: list[ConversationPair], tokenizer: Any) -> list[Any]:
    return encode_conversations(pairs, tokenizer, ChatSettings(), 256)


def test_the_metrics_are_those_of_bradley_and_terry() -> None:
    found = margin_metrics([2.0, -1.0, 0.0, 3.0])
    losses = [-math.log(1 / (1 + math.exp(-one))) for one in (2.0, -1.0, 0.0, 3.0)]
    assert found.loss == pytest.approx(sum(losses) / 4, abs=1e-12)
    assert (found.accuracy, found.margin, found.n) == (0.625, 1.0, 4)
    assert found.accuracy_se == pytest.approx(0.23935677693908453)
    assert margin_metrics([-1e4]).loss == 1e4


def test_the_first_step_is_the_gradient_of_the_mean_loss(make_model: Callable[..., Any], tokenizer: Any) -> None:
    pairs = encoded([pair(), pair(1, BAD, GOOD), pair(2, GOOD, "")], tokenizer)
    model, reference = make_model(), make_model()
    settings = RewardTrainSettings(batch_size=3, warmup_ratio=0, micro_batch_tokens=1, max_gradient_norm=1e9)
    (row,) = train_reward_model(model, pairs, settings, 0, lambda *_: None)
    scores = [
        [reference(torch.tensor([tokens])).logits[0, 0] for tokens in (one.chosen, one.rejected)] for one in pairs
    ]
    loss = torch.stack([-torch.nn.functional.logsigmoid(w - l) for w, l in scores]).mean()  # noqa: E741
    loss.backward()
    norm = math.sqrt(sum(float(one.grad.pow(2).sum()) for one in reference.parameters() if one.grad is not None))
    assert row["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-4)


def test_it_learns_what_the_labels_say(make_model: Callable[..., Any], tokenizer: Any) -> None:
    pairs = encoded([pair(number) for number in range(16)], tokenizer)
    model = make_model()
    settings = RewardTrainSettings(epochs=6, batch_size=8, learning_rate=3e-3)
    curve = train_reward_model(model, pairs, settings, 0, lambda *_: None)
    assert len(curve) == 12 and curve[-1]["loss"] < 0.3 < curve[0]["loss"]
    assert margin_metrics(measure_margins(model.eval(), pairs, 512)).accuracy == 1
    turned = encoded([pair(number).turned() for number in range(16)], tokenizer)
    assert margin_metrics(measure_margins(model, turned, 512)).accuracy == 0


def test_the_ranker_scores_as_training_does(make_model: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> None:
    model = make_model().eval()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (margin,) = measure_margins(model, encoded([pair()], tokenizer), 4096)
    definition = RANKERS.get("reward_model")
    ranker = definition.open(
        definition.settings(ranker="reward_model"),
        RankerContext(None, 0, "cpu", {"model": str(tmp_path / "model")}),
    )
    row = {"id": "0", "prompt": PROMPT, "responses": [{"text": GOOD}, {"text": BAD}]}
    ((good, bad),) = ranker.scores([row], lambda *_: None)
    assert good - bad == pytest.approx(margin, abs=1e-6)


def test_a_loss_that_is_not_finite_stops_the_training(make_model: Callable[..., Any], tokenizer: Any) -> None:
    model = make_model()
    with torch.no_grad():
        model.score.weight.fill_(math.nan)
    with pytest.raises(StageFailed, match="loss of the reward model at step 1 is not finite"):
        train_reward_model(model, encoded([pair()], tokenizer), RewardTrainSettings(), 0, lambda *_: None)


def test_every_two_candidates_that_differ_are_a_pair() -> None:
    row = {
        "id": "7",
        "prompt": PROMPT,
        "responses": [{"text": text} for text in ("a", "b", "b", "c")],
        "scores": [0.0, 1.0, 1.0, 1.0],
    }
    assert [(one.chosen, one.rejected) for one in ranked_pairs([row])] == [("b", "a"), ("b", "a"), ("c", "a")]


def test_the_split_is_by_prompt_and_fewer_pairs_are_the_first_of_more() -> None:
    pairs = [pair(number, f"good {k}", f"bad {k}") for number in range(20) for k in range(3)]
    train, held_out = split_pairs(pairs, RewardTrainSettings(), 0)
    assert len(held_out) == 4 * 3 and not {one.group for one in train} & {one.group for one in held_out}
    fewer, same = split_pairs(pairs, RewardTrainSettings(n_pairs=5), 0)
    assert fewer == train[:5] and same == held_out
    noisy, clean = split_pairs(pairs, RewardTrainSettings(label_noise=0.4), 0)
    turned = sum(one.chosen.startswith("bad") for one in noisy)
    assert 0 < turned < len(noisy) / 2 + 6 and clean == held_out
    with pytest.raises(StageFailed, match="too few to train a reward model"):
        split_pairs(pairs[:3], RewardTrainSettings(), 0)


def test_a_file_that_holds_no_pairs_says_so(tmp_path: Path) -> None:
    from aipo_lab.core.hashing import sha256_of

    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": [{"role": "user", "content": "a"}], "chosen": "text", "rejected": []}\n', "utf-8")
    with pytest.raises(StageFailed, match="has a row without prompt, chosen and rejected"):
        read_pairs(str(path), sha256_of(path))
    with pytest.raises(StageFailed, match="has changed since"):
        read_pairs(str(path), "another")
