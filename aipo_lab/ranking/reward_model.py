"""The `reward_model` ranker: any Hugging Face sequence-classification model, asked about whole conversations.

The model is a folder, or it is trained first, by the stage `train_reward`, on pairs (`rank.train`).

A response's score is the model's number for the conversation of prompt and response, rendered by the model's own chat
template. It does not depend on what else is in a batch: as at batch size 1, without padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.core.jsonl import read_json
from aipo_lab.core.progress import Progress
from aipo_lab.core.unicode import repaired
from aipo_lab.models.chat import encode_conversation
from aipo_lab.models.fingerprint import fingerprint_folder
from aipo_lab.models.locating import locate_model
from aipo_lab.models.sequence_scores import SequenceScorer
from aipo_lab.models.template import DEFAULT_DATE, ChatSettings, TemplateDate, TemplateText, check_has_template
from aipo_lab.ranking.ranker import RANKERS, RankerContext, RankerDefinition, RankerResources, RankerSettings
from aipo_lab.ranking.reward_training import RewardTrainingSettings


class RewardModelSettings(RankerSettings):
    """The model, and how it is asked."""

    ranker: Literal["reward_model"] = Field("reward_model", description="ranker: reward_model")
    model: str | None = Field(
        None,
        description="a sequence-classification model: a folder, an asset's name or a hub id owner/name; none: one that "
        "is trained first (rank.train)",
    )
    train: RewardTrainingSettings | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="train the model first, a Bradley-Terry head on the base model; none: rank.model is ready",
    )
    output: int = Field(0, ge=0, description="which of the model's outputs is the score, counted from 0")
    chat_template: TemplateText = Field(
        None,
        description="chatml, plain, or a Jinja file (its text is kept), used instead of the model's own; none: its own",
    )
    template_date: TemplateDate = Field(DEFAULT_DATE, description="the day chat templates are told it is, YYYY-MM-DD")
    max_tokens: int = Field(
        2048,
        ge=2,
        description="most tokens of a conversation (never more than the model has positions); the end of longer ones "
        "is cut off (and counted)",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="data type of weights and products")
    batch_tokens: int = Field(4096, ge=1, description="tokens of a batch, padding included")

    def chat(self) -> ChatSettings:
        """How conversations are rendered."""
        return ChatSettings(template=self.chat_template, date=self.template_date)

    def training(self) -> RewardTrainingSettings | None:
        """See `RankerSettings.training`."""
        return self.train

    def key_values(self) -> dict[str, Any]:
        """See `RankerSettings.key_values`: how a model was trained is in the key of what trained it."""
        return self.model_dump(mode="json", exclude={"train"} if self.train is None else {"train", "model"})


def resources(settings: RewardModelSettings) -> RankerResources:
    """The model, by its content; raises `UserError` with every reason why it cannot be used."""
    if settings.train is not None:
        if settings.model is not None:
            raise UserError(
                f"rank.model {settings.model!r} would not be used, as rank.train trains another on the base model; "
                "leave one of the two out"
            )
        return settings.train.resources()
    if settings.model is None:
        raise UserError(
            "rank.ranker reward_model needs a model: set rank.model to a folder, an asset's name or a hub id, or train "
            "one with rank.train (docs/rankers.md)"
        )
    folder = locate_model(settings.model, "rank.model")
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise UserError(f"rank.model {folder}: its config.json cannot be read ({error})") from None
    problems = []
    if not any("SequenceClassification" in name for name in config.get("architectures") or []):
        problems.append(
            f"its architectures are {config.get('architectures')}; a reward model is one for sequence classification"
        )
    n_outputs = len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels", 2))
    if settings.output >= n_outputs:
        problems.append(f"it has {n_outputs} output(s), numbered from 0; lower rank.output {settings.output}")
    if not any(folder.glob("*.safetensors")):
        problems.append("it has no weights in safetensors")
    try:
        check_has_template(folder, settings.chat(), "rank.chat_template")
    except UserError as error:
        problems.append(str(error))
    if problems:
        raise UserError.from_problems(f"rank.model {folder} cannot be used as a reward model:", problems)
    return RankerResources({"model": fingerprint_folder(folder)}, {"model": str(folder)})


@dataclass(frozen=True)
class _Conversation:
    """One candidate's tokens, and whether its end was cut off."""

    tokens: tuple[int, ...]
    is_cut: bool


class RewardModelRanker:
    """Scores by a model in memory."""

    def __init__(self, settings: RewardModelSettings, context: RankerContext) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = context.folders["model"]
        self._settings = settings
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=getattr(torch, settings.dtype), use_safetensors=True
        )
        model = model.to(context.device).eval()
        self._scorer = SequenceScorer(model, settings.output)
        self._most_tokens = min(settings.max_tokens, *position_limits(model, self._tokenizer))

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """See `Ranker.scores`."""
        asked = [self._conversations(row) for row in rows]
        distinct = sorted({one.tokens for row in asked for one in row}, key=lambda tokens: (-len(tokens), tokens))
        made: dict[tuple[int, ...], float] = {}
        for batch in self._batches(distinct):
            made.update(zip(batch, self._forward(batch), strict=True))
            progress(len(rows) * len(made) // len(distinct), len(rows), "prompts")
        return ([made[one.tokens] for one in row] for row in asked)

    def summary(self, rows: Sequence[Mapping[str, Any]], _: Progress) -> Mapping[str, Any]:
        """How many conversations were longer than the model may read."""
        return {"cut_off": sum(one.is_cut for row in rows for one in self._conversations(row))}

    def _conversations(self, row: Mapping[str, Any]) -> list[_Conversation]:
        prompt, chat, most = repaired(row["prompt"]), self._settings.chat(), self._most_tokens
        found = []
        for response in row["responses"]:
            messages = [
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": repaired(response["text"])},
            ]
            tokens = encode_conversation(self._tokenizer, messages, chat)
            if not tokens:
                raise StageFailed(f"the chat template makes no token of prompt {row['id']} and a response")
            found.append(_Conversation(tuple(tokens[:most]), len(tokens) > most))
        return found

    def _batches(self, distinct: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        batch: list[tuple[int, ...]] = []
        for tokens in distinct:
            if batch and len(batch[0]) * (len(batch) + 1) > self._settings.batch_tokens:
                yield batch
                batch = []
            batch.append(tokens)
        if batch:
            yield batch

    def _forward(self, batch: Sequence[tuple[int, ...]]) -> list[float]:
        import torch

        with torch.inference_mode():
            return [float(score) for score in self._scorer.scores(batch)]


def position_limits(model: Any, tokenizer: Any) -> list[int]:
    """The longest texts that the model and its tokenizer say they were made for."""
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return [int(tokenizer.model_max_length), *([int(stated)] if stated else [])]


RANKERS.add("reward_model", RankerDefinition(settings=RewardModelSettings, open=RewardModelRanker, resources=resources))
