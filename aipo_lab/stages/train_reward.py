"""Stage `train_reward`: a reward model from pairs, by a Bradley-Terry head on the base model.

Input `policy`, and `ranking` unless a file of pairs is read: every two candidates of a prompt whose scores differ are a
pair. Output `model/`, a Hugging Face folder for sequence classification in safetensors, which the `reward_model` ranker
reads; `curve.jsonl`, one row per step; `metrics.json`: `accuracy` on pairs of prompts that were kept back, whose labels
have no noise, and `train_accuracy`, in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import Field

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_json, write_jsonl
from aipo_lab.models.policy import load_tokenizer
from aipo_lab.models.template import ChatSettings
from aipo_lab.ranking.reward_model import position_limits
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.policy_folder import policy_folder
from aipo_lab.training.checkpoint import TrainingCheckpoints
from aipo_lab.training.reward import RewardTrainSettings, margin_metrics, measure_margins, train_reward_model
from aipo_lab.training.reward_pairs import ConversationPair, encode_conversations, ranked_pairs, read_pairs, split_pairs


class TrainRewardConfig(RewardTrainSettings):
    """All that determines the reward model besides the base model and the ranking."""

    seed: int = Field(description="seed of the head, of the split, of noise and of the pairs' order")
    max_tokens: int = Field(description="most tokens of a conversation; the end of longer ones is cut off")
    chat: ChatSettings = Field(description="how conversations are rendered")
    pairs: str | None = Field(None, description="hash of the file of pairs; none: the pairs are the ranking's")


@stage("train_reward", version=1, config=TrainRewardConfig)
def train_reward(context: StageContext[TrainRewardConfig]) -> Mapping[str, Any]:
    """Write the model and how good it is; the summary counts pairs."""
    config = context.config
    folder = policy_folder(context)
    tokenizer, model = load_tokenizer(folder), _with_head(context)
    train, held_out = split_pairs(_pairs(context), config, config.seed)
    most_tokens = min(config.max_tokens, *position_limits(model, tokenizer))
    encoded = [encode_conversations(part, tokenizer, config.chat, most_tokens) for part in (train, held_out)]
    checkpoints = TrainingCheckpoints(context.parts / "reward", context.runtime.checkpoint_interval_s)
    curve = train_reward_model(model.train(), encoded[0], config, config.seed, context.progress, checkpoints)
    model.eval()
    found = [margin_metrics(measure_margins(model, part, config.micro_batch_tokens)) for part in encoded]
    model.save_pretrained(context.folder / "model")
    tokenizer.save_pretrained(context.folder / "model")
    write_jsonl(context.folder / "curve.jsonl", curve)
    metrics = {
        name: {"value": 100 * one.accuracy, "se": 100 * one.accuracy_se, "n": one.n}
        for name, one in (("train_accuracy", found[0]), ("accuracy", found[1]))
    }
    write_json(context.folder / "metrics.json", metrics)
    return {
        "pairs": len(train),
        "held_out_pairs": len(held_out),
        "steps": len(curve),
        "accuracy": metrics["accuracy"]["value"],
        "accuracy_se": metrics["accuracy"]["se"],
        "train_accuracy": metrics["train_accuracy"]["value"],
        "held_out": asdict(found[1]),
    }


def _pairs(context: StageContext[TrainRewardConfig]) -> list[ConversationPair]:
    if context.config.pairs is None:
        return ranked_pairs(read_jsonl(context.inputs["ranking"].file("ranking.jsonl")))
    return read_pairs(context.runtime.ranker_folders["pairs"], context.config.pairs)


def _with_head(context: StageContext[TrainRewardConfig]) -> Any:
    """The base model with a new head of one output; raises `StageFailed` where its architecture has none."""
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = policy_folder(context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.config.seed)
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=1, dtype=torch.float32, use_safetensors=True
            )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise StageFailed(f"the base model cannot be made into a reward model: {reason}") from None
    if model.config.get_text_config().pad_token_id is None:
        tokenizer = load_tokenizer(folder)
        pad = tokenizer.pad_token_id
        model.config.get_text_config().pad_token_id = tokenizer.eos_token_id if pad is None else pad
    return model.to(context.runtime.device)
