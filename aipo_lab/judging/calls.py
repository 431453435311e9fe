"""What is asked of a judge and what comes back; benchmarks and judges meet here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aipo_lab.core.progress import Progress


@dataclass(frozen=True)
class Message:
    """One message of a chat: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class JudgeRequest:
    """One call: its content alone decides which stored reply it gets.

    `top_logprobs` > 0 asks for the log-probabilities of that many likeliest first tokens.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    top_logprobs: int = 0


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


def outcome_of(request: JudgeRequest, reply: JudgeReply) -> Outcome:
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
