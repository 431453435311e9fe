"""What is asked of a judge and what comes back; benchmarks and judges meet here."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aipo_lab.core.progress import Progress

CHARACTERS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text; only ever used for what is called an estimate."""
EXTRA_TOKENS_PER_MESSAGE = 8
"""More than the chat format adds to a message (3 or 4 tokens, and 3 to prime the reply)."""


class ServerRequest(Protocol):
    """What any request to a server says of itself: enough to pace it, to bound its cost and to store its reply.

    `max_tokens` is the most tokens that the whole reply can have.
    """

    @property
    def max_tokens(self) -> int: ...  # noqa: D102

    @property
    def temperature(self) -> float: ...  # noqa: D102

    def __hash__(self) -> int: ...

    def content(self) -> dict[str, Any]:
        """The request as JSON values; equal requests give equal values."""
        ...

    def digest_parts(self) -> tuple[dict[str, Any], list[bytes]]:
        """The content for a hash: JSON values, and long texts apart, which are announced in the values."""
        ...

    def most_prompt_tokens(self) -> int:
        """An upper bound of the prompt's tokens."""
        ...

    def likely_prompt_tokens(self) -> int:
        """An estimate of the prompt's tokens."""
        ...


@dataclass(frozen=True)
class Message:
    """One message of a chat: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class JudgeRequest:
    """One call: its content alone decides which stored reply it gets.

    `top_logprobs` > 0 asks for the log-probabilities of that many likeliest first tokens. `sample` tells the replies
    apart where one is asked for several times.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    top_logprobs: int = 0
    sample: int = 0

    def content(self) -> dict[str, Any]:
        """See `ServerRequest.content`."""
        return {
            "messages": [[message.role, message.content] for message in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": float(self.temperature) + 0.0,  # 0 and -0.0 are 0.0
            "top_logprobs": self.top_logprobs,
            **({"sample": self.sample} if self.sample else {}),  # replies stored before there were samples stay found
        }

    def digest_parts(self) -> tuple[dict[str, Any], list[bytes]]:
        """See `ServerRequest.digest_parts`."""
        texts = [message.content.encode("utf-8", "surrogatepass") for message in self.messages]
        announced = [[message.role, len(text)] for message, text in zip(self.messages, texts, strict=True)]
        return {**self.content(), "messages": announced}, texts

    def most_prompt_tokens(self) -> int:
        """See `ServerRequest.most_prompt_tokens`: a token stands for at least one byte.

        Of the text, or of what NFKC makes of it: byte-level vocabularies take the text as it is, SentencePiece may
        normalise it first, which can lengthen it.
        """
        n_bytes = sum(_most_bytes(message.content) for message in self.messages)
        return n_bytes + EXTRA_TOKENS_PER_MESSAGE * (len(self.messages) + 1)

    def likely_prompt_tokens(self) -> int:
        """See `ServerRequest.likely_prompt_tokens`: from the number of characters."""
        n_characters = sum(len(message.content) for message in self.messages)
        return math.ceil(n_characters / CHARACTERS_PER_TOKEN) + EXTRA_TOKENS_PER_MESSAGE


def _most_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    forms = (text, unicodedata.normalize("NFKC", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)


@dataclass(frozen=True)
class JudgeReply:
    """A judge's answer. `first_token_logprobs`: (token, natural log-probability), likeliest first, if asked for.

    `problem`: why it is unusable though it was paid for, else empty; judges report such a reply as `Unanswered`.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    first_token_logprobs: tuple[tuple[str, float], ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Unanswered:
    """A call without a usable reply, and why; asked again when the evaluation runs again, unless it would repeat."""

    reason: str


Outcome = JudgeReply | Unanswered

CUT_OFF, FILTERED = "length", "content_filter"
"""Finish reasons: the cap on tokens was reached; a filter took the words away."""


def would_repeat(temperature: float, reply: JudgeReply, before: JudgeReply | None = None) -> bool:
    """Whether asking again is bound to give this useless reply again.

    So it is if the reply was decoded greedily, and cut off or filtered, or says what the one `before` it said.
    """
    was_same = before is not None and (reply.text, reply.problem) == (before.text, before.problem)
    return temperature == 0 and (was_same or reply.finish_reason in (CUT_OFF, FILTERED))


def outcome_of(request: ServerRequest, reply: JudgeReply) -> Outcome:
    """What a stored reply is to who asks."""
    if not reply.problem:
        return reply
    repeats = "; asked again it would repeat that, so it is not (another label of the judge asks anew)"
    return Unanswered(reply.problem + (repeats if would_repeat(request.temperature, reply) else ""))


def count_calls(n: int) -> str:
    """The number in words a person reads: `1 call`, `1,204 calls`."""
    return f"{n:,} {'call' if n == 1 else 'calls'}"


class Judge(Protocol):
    """Answers calls; every answered call is stored at once and never made again."""

    @property
    def name(self) -> str:
        """The judge model's name, as judgment files state it."""
        ...

    def ask(self, requests: Sequence[JudgeRequest], progress: Progress) -> list[Outcome]:
        """The outcomes in the order of the requests; equal requests are asked once.

        Raises `UserError` for what asking again cannot mend (no key, unknown model, no log-probabilities)
        and `BudgetReached` when the next call could pass the cost limit; replies until then are stored.
        """
        ...

    def discard(self, request: JudgeRequest, reason: str) -> None:
        """Mark the stored reply to `request` as unusable: kept on disk with the reason, asked again on the next run.

        A run is one command with all its judges: they go on answering with the same reply. Where a new reply would
        only repeat the old one (see `would_repeat`), the old one stays for later runs too.
        """
        ...
