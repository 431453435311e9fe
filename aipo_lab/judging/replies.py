"""Reading a server's answer to one call: a reply, or why there is none and whether asking again may help."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeReply, JudgeRequest
from aipo_lab.judging.money import CHARACTERS_PER_TOKEN, likely_prompt_tokens

SHOWN_CHARACTERS = 200
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
"""Of the 4xx statuses those that pass; every 5xx may pass too."""
REFUSAL_CODES = frozenset({"context_length_exceeded", "content_filter", "string_above_max_length"})


class Fault(Exception):
    """This try failed, the next may not. `retry_after_s`: the server's wish, 0 if it has none."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class OutOfTime(Fault):
    """There is no time left to try."""


class Refusal(Exception):
    """The server will never answer this very request, but may answer others."""


class NoLogprobs(Exception):
    """The server answered, but without the log-probabilities that were asked for."""


class _TokenLogprob(BaseModel):
    token: str
    logprob: FiniteFloat


class _Position(BaseModel):
    top_logprobs: list[_TokenLogprob] = Field(default_factory=list)


class _Logprobs(BaseModel):
    content: list[_Position] | None = None


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Completion(BaseModel):
    """The fields of a chat completion that are used (OpenAI API reference, "The chat completion object")."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read_reply(body: bytes, request: JudgeRequest) -> JudgeReply:
    """The reply in the body of a status 200. Tokens are estimated where a server does not count them.

    Raises `Fault` for anything but a whole completion, `NoLogprobs` if the request's log-probabilities are missing.
    """
    try:
        completion = _Completion.model_validate(json.loads(body))
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise Fault(f"the reply is not a chat completion: {place or 'body'}: {detail['msg']}") from None
    except (ValueError, RecursionError):
        raise Fault(f"the reply is not JSON: {_start(body)}") from None
    choice = completion.choices[0]
    text = choice.message.content
    usage = completion.usage or _Usage(
        prompt_tokens=likely_prompt_tokens(request), completion_tokens=math.ceil(len(text) / CHARACTERS_PER_TOKEN)
    )
    return JudgeReply(
        text=text,
        finish_reason=choice.finish_reason or "stop",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        first_token_logprobs=_first_token(choice) if request.top_logprobs else (),
    )


def _first_token(choice: _Choice) -> tuple[tuple[str, float], ...]:
    positions = choice.logprobs.content if choice.logprobs else None
    if positions == [] and not choice.message.content:
        return ()  # the model ended before its first token
    top = positions[0].top_logprobs if positions else []
    if not top:
        raise NoLogprobs
    return tuple((row.token, row.logprob) for row in sorted(top, key=lambda row: -row.logprob))


def failure(status: int, headers: Mapping[str, str], body: bytes, key_variable: str) -> Exception:
    """What a status other than 200 means: a `Fault`, a `Refusal` or a `UserError` that says what to do."""
    code, message = _error_of(body)
    said = f"status {status}: {message}"
    if status == 402 or code == "insufficient_quota":
        return UserError(f"the judge's account has no credit left ({said}); replies so far are stored: run again later")
    if status >= 500 or status in TRANSIENT_STATUSES:
        return Fault(said, _retry_after_s(headers))
    if code in REFUSAL_CODES or "maximum context length" in message:
        return Refusal(said)
    if status == 400 and "logprob" in message:
        return NoLogprobs(said)
    return UserError(f"the judge's server refuses the call ({said}); {_remedy(status, key_variable)}")


def _remedy(status: int, key_variable: str) -> str:
    if status == 401:
        return f"check the key in the environment variable {key_variable} and that it belongs to this server"
    if status == 403:
        return f"the key in the environment variable {key_variable} may not use this model; use another key or model"
    if status == 404:
        return "check the judge's model (for Azure its deployment) and its base_url, which usually ends in /v1"
    if status < 400:
        return "the address leads elsewhere: check the judge's base_url"
    return "this server does not take such calls: choose another judge model, or another server with base_url"


def _error_of(body: bytes) -> tuple[str, str]:
    """Code and message of an error body in OpenAI's form, or its beginning."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return "", _start(body)
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return "", str(error)[:SHOWN_CHARACTERS]
    message = error.get("message") or error.get("detail") or body.decode("utf-8", "replace")
    return str(error.get("code") or error.get("type") or ""), str(message)[:SHOWN_CHARACTERS]


def _start(body: bytes) -> str:
    text = body[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace")[:SHOWN_CHARACTERS]
    return repr(text) if text else "nothing"


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """The header Retry-After: seconds or an HTTP date (RFC 9110, section 10.2.3); 0 without one."""
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
