"""The pairs a reward model is trained and measured on: from a ranking or a file, split by prompt, as token ids."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.unicode import repaired
from aipo_lab.models.chat import Message, encode_conversation, user_message
from aipo_lab.models.template import ChatSettings
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.reward import RewardTrainSettings


@dataclass(frozen=True)
class ConversationPair:
    """Two answers to a prompt, the better one first."""

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str

    def turned(self) -> ConversationPair:
        """With the label turned round."""
        return replace(self, chosen=self.rejected, rejected=self.chosen)

    @property
    def group(self) -> str:
        """What is the same for all pairs of a prompt."""
        return "\n".join(message["content"] for message in self.prompt)


def ranked_pairs(rows: Sequence[Mapping[str, Any]]) -> list[ConversationPair]:
    """Every two candidates of different texts and scores of rows of `ranking.jsonl`."""
    made = []
    for row in rows:
        best_first = sorted(range(len(row["scores"])), key=lambda index: (-row["scores"][index], index))
        for better, worse in combinations(best_first, 2):
            texts = [row["responses"][index]["text"] for index in (better, worse)]
            if row["scores"][better] > row["scores"][worse] and texts[0] != texts[1]:
                made.append(
                    ConversationPair(f"{row['id']}/{better}-{worse}", tuple(user_message(row["prompt"])), *texts)
                )
    return made


def read_pairs(path: str, content: str) -> list[ConversationPair]:
    """The pairs of a file in the format of `pairs.jsonl`; raises `StageFailed` if it is no such file or has changed."""
    try:
        if sha256_of(Path(path)) != content:
            raise StageFailed(f"the file of pairs {path} has changed since this run began; run again")
        return [
            ConversationPair(
                str(row.get("id", number)),
                tuple({"role": one["role"], "content": one["content"]} for one in row["prompt"]),
                row["chosen"][-1]["content"],
                row["rejected"][-1]["content"],
            )
            for number, row in enumerate(read_jsonl(Path(path)))
        ]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise StageFailed(
            f"the file of pairs {path} has a row without prompt, chosen and rejected as lists of messages "
            f"({type(error).__name__}: {error})"
        ) from None
    except OSError as error:
        raise StageFailed(f"the file of pairs {path} cannot be read: {error.strerror}") from None


def split_pairs(
    pairs: Sequence[ConversationPair], settings: RewardTrainSettings, seed: int
) -> tuple[list[ConversationPair], list[ConversationPair]]:
    """Pairs to train on, with noise, and pairs of other prompts to measure with.

    The split does not depend on `n_pairs`, and fewer training pairs are the first of more. Raises `StageFailed` where
    either part would be empty.
    """
    groups = sorted({pair.group for pair in pairs})
    random.Random(f"{seed}/split").shuffle(groups)
    back = set(groups[: max(1, round(len(groups) * settings.held_out_share))])
    held_out = [pair for pair in pairs if pair.group in back]
    train = [pair for pair in pairs if pair.group not in back]
    if not train or not held_out:
        raise StageFailed(
            f"{len(pairs)} pairs of {len(groups)} prompts are too few to train a reward model and to keep some back; "
            "raise instruct.n_prompts or respond.n_candidates, or give more pairs"
        )
    random.Random(f"{seed}/order").shuffle(train)
    train = train[: settings.n_pairs]
    noise = random.Random(f"{seed}/noise")
    return [pair.turned() if noise.random() < settings.label_noise else pair for pair in train], held_out


def encode_conversations(
    pairs: Sequence[ConversationPair], tokenizer: Any, chat: ChatSettings, most_tokens: int
) -> list[EncodedPair]:
    """The pairs as token ids of whole conversations, exactly as the `reward_model` ranker reads them."""

    def tokens(pair: ConversationPair, answer: str) -> list[int]:
        messages = [{**one, "content": repaired(one["content"])} for one in pair.prompt]
        whole = [*messages, {"role": "assistant", "content": repaired(answer)}]
        return encode_conversation(tokenizer, whole, chat)[:most_tokens]

    return [EncodedPair(pair.id, [], tokens(pair, pair.chosen), tokens(pair, pair.rejected)) for pair in pairs]
