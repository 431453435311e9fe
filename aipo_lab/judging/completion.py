"""Reading the body of a status 200: what was said and what was billed, whatever shape a server gives its reply.

A body that states its `usage` was paid for, so it is always a reply: one without usable words says so in `problem`.
Shapes: OpenAI API reference, "The chat completion object"; content as parts: messages of the same reference;
`reasoning_content`: DeepSeek, vLLM and SGLang (vLLM also `reasoning`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from aipo_lab.core.unicode import repaired, repaired_json
from aipo_lab.judging.calls import CUT_OFF, FILTERED, JudgeReply, JudgeRequest
from aipo_lab.judging.replies import Fault, start_of

NO_LOGPROBS = "the reply holds no log-probabilities of its first token"
_TEXT_PARTS = frozenset({"text", "output_text"})
_REASONING_KEYS = ("reasoning_content", "reasoning")

Json = Mapping[str, Any]


def read_reply(body: bytes, request: JudgeRequest) -> JudgeReply:
    """The reply in the body; `problem` says why it is unusable, if it is.

    Tokens count as at most they can be where a server does not count them. Raises `Fault` for a body that is no
    completion and states no usage: whether it was billed is unknown.
    """
    completion = json_object(body)
    choice = _first_choice(completion)
    message = choice.get("message")
    usage = completion.get("usage")
    prompt_tokens, completion_tokens = (stated_tokens(usage, key) for key in ("prompt_tokens", "completion_tokens"))
    text = _text(message)
    if text is None and prompt_tokens is None and completion_tokens is None:
        raise Fault(f"the reply is not a chat completion: {_what_lacks(completion)}", may_have_cost=True)
    logprobs = _first_token(choice) if request.top_logprobs else ()
    finish_reason = repaired(str(choice.get("finish_reason") or "stop"))
    if text is not None and not (text.strip() or logprobs) and finish_reason in (CUT_OFF, FILTERED):
        text = None  # so models reply whose hidden reasoning took all the tokens
    if text is None:
        problem = _why_no_text(message, finish_reason)
    else:
        problem = NO_LOGPROBS if request.top_logprobs and text and not logprobs else ""
    return JudgeReply(
        text=repaired(text or ""),
        finish_reason=finish_reason,
        prompt_tokens=request.most_prompt_tokens() if prompt_tokens is None else prompt_tokens,
        completion_tokens=request.max_tokens if completion_tokens is None else completion_tokens,
        first_token_logprobs=logprobs,
        problem=problem,
    )


def json_object(body: bytes, what: str = "chat completion") -> Json:
    """The body's object; raises `Fault` if it holds none, which is not `what` was asked for."""
    try:
        value = json.loads(body.decode(json.detect_encoding(body), "replace").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise Fault(f"the reply is not JSON: {start_of(body)}", may_have_cost=True) from None
    if not isinstance(value, dict):
        raise Fault(f"the reply is not a {what}: {start_of(body)}", may_have_cost=True)
    return value


def _first_choice(completion: Json) -> Json:
    choices = completion.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def stated_tokens(usage: Any, key: str) -> int | None:
    """A count of the usage; None if the server does not state it as a number."""
    value = usage.get(key) if isinstance(usage, dict) else None
    try:
        number = float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        return None
    return math.ceil(number) if math.isfinite(number) and number >= 0 else None


def _text(message: Any) -> str | None:
    """The words of a message: its content, or the texts among its content's parts; None if it has none."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return None if not content.strip() and _reasoning(message) else content
    parts = [_part(part) for part in content] if isinstance(content, list) else []
    texts = [part for part in parts if part is not None]
    return "".join(texts) if texts else None


def _part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in _TEXT_PARTS:
        return None
    text = part.get("text")
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else None


def _reasoning(message: Json) -> bool:
    return any(message.get(key) for key in _REASONING_KEYS)


def _why_no_text(message: Any, finish_reason: str) -> str:
    said = repaired_json(message) if isinstance(message, dict) else {}
    if refusal := said.get("refusal") or _refusal_part(said.get("content")):
        return f"the judge refuses to answer: {str(refusal)[:200]}"
    if finish_reason == FILTERED:
        return "the reply was taken away by the server's content filter"
    reasoning = "reasoning and no answer" if _reasoning(said) else "no text"
    cut = ", cut off by the cap on its tokens" if finish_reason == CUT_OFF else f" (it ended by: {finish_reason})"
    return f"the reply holds {reasoning}{cut}"


def _refusal_part(content: Any) -> str:
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("refusal") or "") for part in parts if isinstance(part, dict))


def _what_lacks(completion: Json) -> str:
    error = completion.get("error")
    if error:
        return f"status 200 with an error: {str(error)[:200]}"
    if not completion.get("choices"):
        return "there are no choices and no usage"
    return "choices.0.message.content is no text, and there is no usage"


def _first_token(choice: Json) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens with their log-probabilities; empty if the choice states none."""
    logprobs = choice.get("logprobs")
    positions = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = positions[0] if isinstance(positions, list) and positions else None
    top = first.get("top_logprobs") if isinstance(first, dict) else None
    rows = [
        (repaired(row["token"]), float(row["logprob"]))
        for row in (top if isinstance(top, list) else [])
        if isinstance(row, dict) and isinstance(row.get("token"), str) and _is_finite(row.get("logprob"))
    ]
    return tuple(sorted(rows, key=lambda row: -row[1]))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
