"""A conversation says what the engine would, piece by piece, and remembers what was said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.generation.conversation import Conversation, _Writer
from aipo_lab.generation.engine import SamplingConfig
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.chat import MODEL_TEMPLATE, encode_prompt
from aipo_lab.models.policy import Policy, load_policy

GREEDY = SamplingConfig(temperature=0, max_new_tokens=24)


@pytest.fixture
def trained(base_model_folder) -> Policy:
    return load_policy(base_model_folder, "cpu", "float32")


def test_turns_are_those_of_the_engine_on_the_whole_conversation(trained: Policy) -> None:
    talk, messages = Conversation(trained, MODEL_TEMPLATE, GREEDY, 0), []
    for said in ("What is the color of the fox?", "And of the owl?"):
        pieces: list[str] = []
        answer = talk.reply(said, pieces.append)
        messages.append({"role": "user", "content": said})
        prompt = encode_prompt(trained.tokenizer, messages)
        (((expected,),)) = (TransformersEngine(trained, 8).generate([prompt], 1, GREEDY, 0)[0],)
        assert answer == expected
        assert "".join(pieces) == answer.text and len(pieces) > 1
        messages.append({"role": "assistant", "content": answer.text})
    assert talk.messages == messages


def test_sampling_follows_seed_and_turn_and_nothing_of_the_folders_own(trained: Policy) -> None:
    sampling = SamplingConfig(temperature=1.5, max_new_tokens=24)

    def texts(seed: int) -> list[str]:
        talk = Conversation(trained, MODEL_TEMPLATE, sampling, seed)
        return [talk.reply("What is the color of the fox?", lambda _: None).text for _ in range(2)]

    plain = texts(0)
    assert plain == texts(0) != texts(1)
    trained.model.generation_config.repetition_penalty = 9.0
    assert texts(0) == plain


def test_a_full_or_interrupted_conversation_forgets_the_turn(
    make_policy: Callable[..., Policy], trained: Policy
) -> None:
    policy = make_policy()
    long = Conversation(policy, MODEL_TEMPLATE, GREEDY, 0)
    with pytest.raises(UserError, match=r"positions leave no room for an answer; begin a new one"):
        long.reply("fox " * 600, lambda _: None)
    assert long.messages == []

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    talk = Conversation(trained, MODEL_TEMPLATE, GREEDY, 0)
    with pytest.raises(KeyboardInterrupt):
        talk.reply("What is the color of the fox?", interrupt)
    assert talk.messages == []


def test_no_half_letter_is_shown() -> None:
    import torch

    class Bytes:
        """A tokenizer whose tokens are bytes."""

        def decode(self, tokens: list[int], **_: Any) -> str:
            return bytes(tokens).decode("utf-8", "replace")

    pieces: list[str] = []
    writer = _Writer(Bytes(), frozenset({0}), 2, pieces.append)
    writer.put(torch.tensor([[9, 9]]))
    for byte in [*"aé🦊b".encode(), 0]:
        writer.put(torch.tensor([byte]))
    assert writer.finish().text == "aé🦊b"
    assert pieces == ["a", "é", "🦊", "b"]
