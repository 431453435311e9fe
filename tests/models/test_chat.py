"""Prompts and responses as tokens: one begin token, one end token, and no re-tokenised surprise."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.models.chat import encode_prompt, encode_response, user_message
from aipo_lab.worlds.world import get_world

PROMPTS = get_world("micro").pool(20)


@pytest.mark.parametrize("prompt", PROMPTS[:5])
def test_a_prompt_is_the_template_up_to_where_the_assistant_speaks(tokenizer: Any, prompt: str) -> None:
    tokens = encode_prompt(tokenizer, user_message(prompt))
    assert tokenizer.decode(tokens) == f"<s><|user|>{prompt}<|assistant|>"
    assert tokens.count(tokenizer.bos_token_id) == 1


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Any) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(UserError, match=r"no chat template.*set chat_template to chatml, to plain, or"):
        encode_prompt(bare, user_message(PROMPTS[0]))


def test_a_response_has_an_end_token_only_if_the_policy_wrote_one(tokenizer: Any) -> None:
    text = "That is worth knowing."
    whole, cut = encode_response(tokenizer, text, ended=True), encode_response(tokenizer, text, ended=False)
    assert whole == [*cut, tokenizer.eos_token_id]
    assert tokenizer.decode(cut) == text
    assert tokenizer.bos_token_id not in whole


def test_prompt_and_response_join_to_the_templates_whole_conversation(tokenizer: Any) -> None:
    messages = [*user_message(PROMPTS[0]), {"role": "assistant", "content": "That is worth knowing."}]
    joined = encode_prompt(tokenizer, messages[:1]) + encode_response(tokenizer, "That is worth knowing.", ended=True)
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert joined == tokenizer(text, add_special_tokens=False)["input_ids"]
