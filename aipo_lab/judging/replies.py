"""Why a call got no reply: what a status other than 200 means, and whether asking again may help."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from aipo_lab.core.errors import UserError

SHOWN_CHARACTERS = 200
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
"""Of the 4xx statuses those that pass; every 5xx may pass too."""
GATEWAY_STATUSES = frozenset({408, 502, 504, 520, 521, 522, 523, 524})
"""Said by what stands before a server, which may still be at work or have finished."""
REFUSAL_CODES = frozenset({"context_length_exceeded", "content_filter", "string_above_max_length"})


class Fault(Exception):
    """This try failed, the next may not. `retry_after_s`: the server's wish, 0 if it has none.

    `may_have_cost`: whether the server may have worked on the call, and bill it, without telling.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0, *, may_have_cost: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.may_have_cost = may_have_cost


class OutOfTime(Fault):
    """There is no time left to try."""


class Refusal(Exception):
    """The server will never answer this very request, but may answer others."""


class NoLogprobs(Exception):
    """The server has not the log-probabilities that were asked for."""


@dataclass(frozen=True)
class ServerError:
    """An error body: OpenAI's code and message, and the request's parameter that it is about, as far as it says so."""

    code: str
    message: str
    parameter: str = ""


def failure(
    status: int, headers: Mapping[str, str], error: ServerError, key_variable: str, who: str = "judge"
) -> Exception:
    """What a status other than 200 means: a `Fault`, a `Refusal` or a `UserError` that says what to do."""
    code, message = error.code, error.message
    said = f"status {status}: {message}"
    if status == 402 or code == "insufficient_quota":
        return UserError(f"the {who}'s account has no credit left ({said}); replies so far are stored: run again later")
    if status >= 500 or status in TRANSIENT_STATUSES:
        return Fault(said, _retry_after_s(headers), may_have_cost=status in GATEWAY_STATUSES)
    if code in REFUSAL_CODES or "maximum context length" in message:
        return Refusal(said)
    if status == 400 and "logprob" in message:
        return NoLogprobs(said)
    return UserError(f"the {who}'s server refuses the call ({said}); {_remedy(status, key_variable, who)}")


def _remedy(status: int, key_variable: str, who: str) -> str:
    if status == 401:
        return f"check the key in the environment variable {key_variable} and that it belongs to this server"
    if status == 403:
        return f"the key in the environment variable {key_variable} may not use this model; use another key or model"
    if status == 404:
        return f"check the {who}'s model (for Azure its deployment) and its base_url, which usually ends in /v1"
    if status < 400:
        return f"the address leads elsewhere: check the {who}'s base_url"
    return f"this server does not take such calls: choose another {who} model, or another server with base_url"


def error_of(body: bytes) -> ServerError:
    """The error in a body of OpenAI's form, or the body's beginning."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ServerError("", start_of(body))
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return ServerError("", str(error)[:SHOWN_CHARACTERS])
    message = error.get("message") or error.get("detail") or body.decode("utf-8", "replace")
    return ServerError(
        str(error.get("code") or error.get("type") or ""),
        str(message)[:SHOWN_CHARACTERS],
        str(error.get("param") or ""),
    )


def start_of(body: bytes) -> str:
    """The beginning of a body, as a message shows it."""
    text = body[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace")[:SHOWN_CHARACTERS]
    return repr(text) if text else "nothing"


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """The header Retry-After: seconds or an HTTP date (RFC 9110, section 10.2.3); 0 without one.

    A date is compared with the server's own clock where the header Date tells it.
    """
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        until, now = _http_date(value), _http_date(headers.get("Date", "")) or datetime.now(UTC)
        seconds = (until - now).total_seconds() if until else 0.0
    return max(0.0, seconds) if not math.isnan(seconds) else 0.0


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
