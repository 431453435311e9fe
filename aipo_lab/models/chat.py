"""How prompts and responses become tokens: the model's own chat template, and one end token per response."""

from __future__ import annotations

from typing import Any

Message = dict[str, str]


def user_message(text: str) -> list[Message]:
    """A one-turn conversation."""
    return [{"role": "user", "content": text}]


def encode_prompt(tokenizer: Any, messages: list[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant starts to speak.

    A tokenizer without chat template gets the bare texts of all turns, a blank line between two. The template writes
    the special tokens itself, so none are added to it (a second BOS is a known defect of other pipelines).
    """
    if tokenizer.chat_template is None:
        text = "\n\n".join(message["content"] for message in messages)
        return [int(token) for token in tokenizer(text)["input_ids"]]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def encode_response(tokenizer: Any, text: str, ended: bool) -> list[int]:
    """Token ids of a response, with the end token if the policy wrote one (`ended`)."""
    tokens = [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    return [*tokens, int(tokenizer.eos_token_id)] if ended else tokens
