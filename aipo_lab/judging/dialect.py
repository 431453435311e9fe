"""What is sent to a server, in the words it takes: parameters it refuses are found from its refusal and remembered.

Newer models call the cap on a reply `max_completion_tokens` and allow no temperature but 1 (OpenAI API reference,
"Create chat completion"; its reasoning models).
"""

from __future__ import annotations

import logging
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeReply, JudgeRequest
from aipo_lab.judging.completion import read_reply
from aipo_lab.judging.replies import ServerError

logger = logging.getLogger(__name__)

CAP, NEW_CAP, TEMPERATURE = "max_tokens", "max_completion_tokens", "temperature"
DEFAULT_TEMPERATURE = 1.0
"""Of every server that speaks the protocol: leaving it out changes nothing where it is asked for."""
_UNKNOWN_PARAMETER = (
    "unsupported",
    "not supported",
    "does not support",
    "extra",
    "unrecognized",
    "unknown",
    "unexpected",
)
_REFUSED_STATUSES = frozenset({400, 422})

_KNOWN: dict[tuple[str, str], set[str]] = {}
"""By address and model, the parameters that this process knows to be refused."""


class Dialect:
    """The parameters of one server and model; what one call finds out serves all later ones of the process."""

    def __init__(self, url: str, model: str) -> None:
        self._model = model
        self._refused = _KNOWN.setdefault((url, model), set())

    def body(self, request: JudgeRequest) -> dict[str, Any]:
        """The body of the call."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            NEW_CAP if CAP in self._refused else CAP: request.max_tokens,
            TEMPERATURE: request.temperature,
        }
        if TEMPERATURE in self._refused:
            self._drop_temperature(body)
        return body | ({"logprobs": True, "top_logprobs": request.top_logprobs} if request.top_logprobs else {})

    def learns(self, body: dict[str, Any], status: int, error: ServerError) -> bool:
        """Whether this refusal of `body` tells how to ask instead; the refused call cost nothing.

        Raises `UserError` if the server refuses a temperature that the verdict depends on.
        """
        if status not in _REFUSED_STATUSES:
            return False
        if CAP in body and (NEW_CAP in error.message or _is_unknown(CAP, error)):
            self._remember(CAP, f"takes {NEW_CAP} in place of {CAP}")
            return True
        if TEMPERATURE in body and _is_unknown(TEMPERATURE, error):
            self._drop_temperature(dict(body))
            self._remember(TEMPERATURE, f"takes no {TEMPERATURE}; it is left out where it is {DEFAULT_TEMPERATURE:g}")
            return True
        return False

    def read(self, received: bytes, request: JudgeRequest) -> JudgeReply:
        """See `Wire.read`."""
        return read_reply(received, request)

    def no_logprobs(self, said: str) -> UserError:
        """See `Wire.no_logprobs`."""
        return UserError(
            f"the judge {self._model} gives no log-probabilities ({said}); "
            "alpaca_eval needs those of the first token: use a judge model and server that return them for "
            "`logprobs` and `top_logprobs`, or leave that benchmark out (arena_hard and mt_bench need none)"
        )

    def _remember(self, parameter: str, meaning: str) -> None:
        if parameter not in self._refused:
            self._refused.add(parameter)
            logger.info("the judge %s %s", self._model, meaning)

    def _drop_temperature(self, body: dict[str, Any]) -> None:
        if body.pop(TEMPERATURE) != DEFAULT_TEMPERATURE:
            raise UserError(
                f"the judge {self._model} takes no temperature but its own ({DEFAULT_TEMPERATURE:g}), and this "
                "benchmark's rules ask for another one, which changes verdicts: choose a judge that takes a temperature"
            )


def _is_unknown(parameter: str, error: ServerError) -> bool:
    """Whether the error says that the parameter, or this value of it, is not taken at all (and not, say, too large)."""
    named = error.parameter == parameter or (not error.parameter and parameter in error.message)
    said = f"{error.code} {error.message}".lower()
    return named and any(word in said for word in _UNKNOWN_PARAMETER)
