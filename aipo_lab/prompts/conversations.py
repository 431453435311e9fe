"""One row of existing preference pairs, in any of TRL's formats, as the house holds pairs.

TRL's formats: the prompt in a column of its own or as what both responses begin with, each text or a conversation.
A conversation may have a system turn and several turns; the response is its last turn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aipo_lab.core.unicode import repaired

Message = dict[str, str]
SPEAKERS = ("system", "user", "assistant", "tool", "developer")


class NoPair(Exception):
    """A row that is no usable pair; the message is the reason it is counted under."""


@dataclass(frozen=True)
class Pair:
    """A prompt, ending with a user's turn, and two responses. `is_text`: the row held texts, not conversations."""

    prompt: list[Message]
    chosen: str
    rejected: str
    is_text: bool

    @property
    def question(self) -> str:
        """What the user asked last."""
        return self.prompt[-1]["content"]

    def digest(self) -> bytes:
        """A hash of the content, to find repetitions by."""
        content = json.dumps([self.prompt, self.chosen, self.rejected], sort_keys=True)
        return hashlib.sha256(content.encode()).digest()


def read_pair(prompt: Any, chosen: Any, rejected: Any, raw: bool = False) -> Pair:
    """The pair of a row's cells; `prompt` is None where the responses begin with it. Raises `NoPair`.

    `raw`: texts are continued as they are, without a chat template, so no white space is taken off.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _checked(_of_texts(prompt, repaired(chosen), repaired(rejected), raw))
    if raw:
        raise NoPair("not_text")
    return _checked(_of_conversations(_messages(prompt), _messages(chosen), _messages(rejected)))


def _checked(pair: Pair) -> Pair:
    if not pair.prompt or not pair.question.strip():
        raise NoPair("empty_prompt")
    if pair.prompt[-1]["role"] not in ("user", "tool"):
        raise NoPair("prompt_does_not_end_with_user")
    if not pair.chosen.strip() or not pair.rejected.strip():
        raise NoPair("empty_response")
    if pair.chosen == pair.rejected:
        raise NoPair("same_text")
    return pair


def _of_texts(prompt: Any, chosen: str, rejected: str, raw: bool) -> Pair:
    if prompt is None:
        length = _common_text(chosen, rejected)
        question, chosen, rejected = chosen[:length], chosen[length:], rejected[length:]
    elif isinstance(prompt, str):
        question = repaired(prompt)
    else:
        if raw:
            raise NoPair("not_text")
        return Pair(_messages(prompt), chosen.strip(), rejected.strip(), is_text=False)
    if not raw:
        question, chosen, rejected = question.strip(), chosen.strip(), rejected.strip()
    return Pair([{"role": "user", "content": question}], chosen, rejected, is_text=True)


def _common_text(chosen: str, rejected: str) -> int:
    """Length of what both texts begin with, ending before the space in front of the first word that differs.

    Without such a space there is no prompt to be told from the responses: a word would be cut in two.
    """
    shortest = min(len(chosen), len(rejected))
    length = next((n for n in range(shortest) if chosen[n] != rejected[n]), shortest)
    if length in (len(chosen), len(rejected)):
        length -= 1  # one is the beginning of the other: its last word belongs to the responses
    while length > 0 and not chosen[length].isspace():
        length -= 1
    while length > 0 and chosen[length - 1].isspace():
        length -= 1
    return max(length, 0)


def _of_conversations(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> Pair:
    shared = _shared_turns(chosen, rejected)
    begun, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if len(chosen) != 1 or len(rejected) != 1:
        raise NoPair("response_of_several_turns")
    if chosen[0]["role"] != "assistant" or rejected[0]["role"] != "assistant":
        raise NoPair("response_not_by_assistant")
    whole = begun if _holds(begun, prompt) else prompt + begun
    return Pair(whole, chosen[0]["content"], rejected[0]["content"], is_text=False)


def _shared_turns(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """Turns that both begin with; the last turn of either is a response, even if the two are equal."""
    most = min(len(chosen), len(rejected)) - 1
    return next((n for n in range(most) if chosen[n] != rejected[n]), max(most, 0))


def _holds(begun: Sequence[Message], prompt: Sequence[Message]) -> bool:
    """Whether the responses' common turns repeat the prompt, perhaps behind a system turn."""
    return len(begun) >= len(prompt) and list(begun[len(begun) - len(prompt) :]) == list(prompt)


def _messages(value: Any) -> list[Message]:
    """A cell as turns: none for nothing, one of the user for a text."""
    if value is None:
        return []
    if isinstance(value, str):
        return [{"role": "user", "content": repaired(value).strip()}]
    if not isinstance(value, list):
        raise NoPair("not_text")
    return [_message(one) for one in value]


def _message(value: Any) -> Message:
    if not isinstance(value, Mapping) or value.get("role") not in SPEAKERS:
        raise NoPair("not_a_conversation")
    if not isinstance(value.get("content"), str):
        raise NoPair("not_text")
    return {"role": value["role"], "content": repaired(value["content"])}
