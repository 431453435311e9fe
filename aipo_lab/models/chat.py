"""How prompts and responses become tokens.

What the policy wrote itself is never tokenised again: its tokens are stored. Two kinds of text are tokenised here.
- Prompts: the chat template's text, with the tokens that the tokenizer puts in front of any text exactly once, and
  without the end token that some tokenizers put behind any text.
- Responses that come without tokens (pairs of other origin): the text's tokens, without special ones, then the token
  with which the template ends the assistant's turn, or the tokenizer's end token where the template writes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.models.template import ChatSettings, render

Message = dict[str, str]

MODEL_TEMPLATE = ChatSettings()
"""The model's own template, on the default date."""


def user_message(text: str) -> list[Message]:
    """A one-turn conversation."""
    return [{"role": "user", "content": text}]


def encode_prompt(tokenizer: Any, messages: Sequence[Message], chat: ChatSettings = MODEL_TEMPLATE) -> list[int]:
    """Token ids of a conversation up to where the assistant starts to speak; errors as of `render`."""
    return _begun(tokenizer, bare_tokens(tokenizer, render(tokenizer, messages, chat, open_turn=True)))


def encode_conversation(tokenizer: Any, messages: Sequence[Message], chat: ChatSettings = MODEL_TEMPLATE) -> list[int]:
    """Token ids of a whole conversation, as a reward model reads it; errors as of `render`."""
    return _begun(tokenizer, bare_tokens(tokenizer, render(tokenizer, messages, chat, open_turn=False)))


def encode_text_prompt(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that the model is to continue, without any template."""
    return _begun(tokenizer, bare_tokens(tokenizer, text))


def encode_response(
    tokenizer: Any, text: str, ended: bool, chat: ChatSettings = MODEL_TEMPLATE, end_token_id: int | None = None
) -> list[int]:
    """Token ids of a response that came as text; with an end token if it is complete (`ended`).

    `end_token_id`: which, if the caller knows; else found by `response_end_token`.
    """
    tokens = bare_tokens(tokenizer, text)
    if not ended:
        return tokens
    return [*tokens, response_end_token(tokenizer, chat) if end_token_id is None else end_token_id]


def response_end_token(tokenizer: Any, chat: ChatSettings = MODEL_TEMPLATE) -> int:
    """The token that ends a response given as text."""
    turn_end = turn_end_token(tokenizer, chat)
    return int(tokenizer.eos_token_id) if turn_end is None else turn_end


def turn_end_token(tokenizer: Any, chat: ChatSettings = MODEL_TEMPLATE) -> int | None:
    """The special token that the template writes after the assistant's words; None if it writes none."""
    from jinja2 import TemplateError

    words = "Yes"
    conversation = [*user_message("Hello"), {"role": "assistant", "content": words}]
    try:
        text = render(tokenizer, conversation, chat, open_turn=False)
    except (TemplateError, UserError):
        return None  # a template for prompts only, or none: the declared end tokens remain
    _, found, after = text.rpartition(words)
    tokens = bare_tokens(tokenizer, after.lstrip()) if found else []
    return tokens[0] if tokens and is_special(tokenizer, tokens[0]) else None


def is_special(tokenizer: Any, token: int) -> bool:
    """Whether a token is one of the tokenizer's special or added ones, so that no ordinary text contains it."""
    return token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder


def bare_tokens(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text and nothing added."""
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def _begun(tokenizer: Any, tokens: list[int]) -> list[int]:
    """The tokens with the begin token(s) once: added if the template left them out, one if it wrote them twice."""
    begin = begin_tokens(tokenizer)
    n = len(begin)
    if not n:
        return tokens
    while tokens[:n] == begin:
        tokens = tokens[n:]
    return begin + tokens


def begin_tokens(tokenizer: Any) -> list[int]:
    """What the tokenizer puts in front of any text (what it puts behind is of no use in a prompt)."""
    bare = bare_tokens(tokenizer, "a")
    whole = [int(token) for token in tokenizer("a")["input_ids"]]
    places = [i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare]
    return whole[: places[0]] if places else []
