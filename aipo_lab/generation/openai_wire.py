"""The completions protocol: what an engine asks of a server, and how the tokens are read off its replies.

Prompts are token ids and so are completions, with the parameters that vLLM added to the protocol for that
(`return_token_ids`, `stop_token_ids`, `add_special_tokens`, …; SGLang and others follow it). `exchange: text` is for
servers that know only text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import CHARACTERS_PER_TOKEN, JudgeReply
from aipo_lab.judging.completion import json_object, stated_tokens
from aipo_lab.judging.replies import Fault, ServerError

FINISHED = frozenset({"stop", "length"})
ID_MARK = "token_id:"
"""How vLLM writes a token where the protocol has its text (`return_tokens_as_token_ids`)."""


@dataclass(frozen=True)
class CompletionsRequest:
    """One prompt and its completions; `parameters`: the body without model and prompt, as JSON with sorted keys."""

    prompt: tuple[int, ...] | str
    n: int
    cap: int
    temperature: float
    parameters: str

    @property
    def max_tokens(self) -> int:
        """The most tokens of all its completions."""
        return self.n * self.cap

    def content(self) -> dict[str, Any]:
        """See `ServerRequest.content`."""
        prompt = self.prompt if isinstance(self.prompt, str) else list(self.prompt)
        return {"prompt": prompt, "temperature": self.temperature, **json.loads(self.parameters)}

    def digest_parts(self) -> tuple[dict[str, Any], list[bytes]]:
        """See `ServerRequest.digest_parts`."""
        return self.content(), []

    def most_prompt_tokens(self) -> int:
        """See `ServerRequest.most_prompt_tokens`: of a text, its bytes and a begin token."""
        return len(self.prompt.encode()) + 1 if isinstance(self.prompt, str) else len(self.prompt)

    def likely_prompt_tokens(self) -> int:
        """See `ServerRequest.likely_prompt_tokens`."""
        divisor = CHARACTERS_PER_TOKEN if isinstance(self.prompt, str) else 1
        return len(self.prompt) // divisor + 1


class CompletionsWire:
    """See `Wire`."""

    def __init__(self, model: str, exchange: str) -> None:
        self._model = model
        self._takes_tokens = exchange == "tokens"

    def body(self, request: CompletionsRequest) -> dict[str, Any]:
        """See `Wire.body`."""
        return {"model": self._model, **request.content()}

    def learns(self, body: dict[str, Any], status: int, error: ServerError) -> bool:  # noqa: ARG002
        """See `Wire.learns`: there is one way to ask."""
        return False

    def read(self, received: bytes, request: CompletionsRequest) -> JudgeReply:
        """See `Wire.read`; the reply's text is the list of choices as JSON, each as `read_choice` gives it."""
        reply = json_object(received, "completion")
        usage = reply.get("usage")
        prompt_tokens, completion_tokens = (stated_tokens(usage, key) for key in ("prompt_tokens", "completion_tokens"))
        given = reply.get("choices")
        given = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
        if not given and prompt_tokens is None and completion_tokens is None:
            what = f"status 200 with an error: {str(reply['error'])[:200]}" if reply.get("error") else "no choices"
            raise Fault(f"the reply is not a completion: {what}", may_have_cost=True)
        choices = [read_choice(one) for one in sorted(given, key=_index)]
        if self._takes_tokens:
            self._check_tokens(given, choices, request)
        return JudgeReply(
            text=json.dumps(choices),
            finish_reason="stop",
            prompt_tokens=request.most_prompt_tokens() if prompt_tokens is None else prompt_tokens,
            completion_tokens=request.max_tokens if completion_tokens is None else completion_tokens,
            problem=_problem(choices, request),
        )

    def no_logprobs(self, said: str) -> UserError:
        """See `Wire.no_logprobs`."""
        return UserError(f"the engine's model {self._model} gives no log-probabilities ({said}): use another server")

    def _check_tokens(
        self, given: list[dict[str, Any]], choices: list[dict[str, Any]], request: CompletionsRequest
    ) -> None:
        if any(choice["token_ids"] is None for choice in choices):
            raise UserError(
                f"the engine's server returns no token ids for {self._model}, and what is trained and measured is "
                "exactly the tokens that the policy wrote: use a server that takes `return_token_ids` (vLLM does), or "
                "engine.exchange=text, which tokenises the text it returns; those tokens may not be the written ones"
            )
        for one in given:
            read = _ids(one.get("prompt_token_ids"))
            if read is not None and read != list(request.prompt):
                raise UserError(
                    f"the engine's server completed {len(read)} other tokens than the {len(request.prompt)} of the "
                    "prompt it was sent: it must take prompts as token ids and add none; use another server"
                )


def read_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A choice as it is stored: `text`, `token_ids` and `logprobs` (None where the server gives none), reasons."""
    logprobs = choice.get("logprobs")
    logprobs = logprobs if isinstance(logprobs, dict) else {}
    values = logprobs.get("token_logprobs")
    known = isinstance(values, list) and all(isinstance(value, int | float) for value in values)
    ids = _ids(choice.get("token_ids"))
    return {
        "text": choice["text"] if isinstance(choice.get("text"), str) else None,
        "token_ids": _marked_ids(logprobs.get("tokens")) if ids is None else ids,
        "finish_reason": choice.get("finish_reason"),
        "stop_reason": choice.get("stop_reason"),
        "logprobs": [float(value) for value in values] if known else None,  # type: ignore[union-attr]
    }


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _ids(value: Any) -> list[int] | None:
    is_ids = isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
    return value if is_ids else None


def _marked_ids(tokens: Any) -> list[int] | None:
    marked = isinstance(tokens, list) and all(isinstance(one, str) and one.startswith(ID_MARK) for one in tokens)
    numbers = [one.removeprefix(ID_MARK) for one in tokens] if marked else []
    return [int(one) for one in numbers] if marked and all(one.isdigit() for one in numbers) else None


def _problem(choices: list[dict[str, Any]], request: CompletionsRequest) -> str:
    """Why the reply is of no use although it was paid for, or nothing."""
    if len(choices) != request.n:
        return f"the reply holds {len(choices)} of {request.n} completions"
    for choice in choices:
        ids, logprobs, reason = choice["token_ids"], choice["logprobs"], choice["finish_reason"]
        if reason not in FINISHED:
            return f"a completion ended by {reason!r}"
        if choice["text"] is None and ids is None:
            return "a completion holds no text"
        if ids is not None and len(ids) > request.cap:
            return f"a completion has {len(ids)} tokens, and at most {request.cap} were asked for"
        if ids is not None and logprobs is not None and len(logprobs) != len(ids):
            return f"a completion of {len(ids)} tokens has {len(logprobs)} log-probabilities"
        if not ids and not choice["text"] and reason == "length":
            return "a completion is empty and was cut off"
    return ""
