"""A scripted OpenAI-compatible judge on 127.0.0.1: counts the calls it answered well and fails others on purpose.

    with JudgeServer(lambda body: "My rating: [[7]]") as server:
        judge = open_judge(JudgeSettings(model="gpt-4", base_url=server.base_url), store_folder)
        ...
        assert server.answered_once()

Import it anywhere under `tests/` as `from judging.judge_server import JudgeServer`.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Body = dict[str, Any]

STATUS_FAULTS = {
    "bad_request": (400, {"message": "max_tokens is too large", "code": "invalid_value"}),
    "too_long": (400, {"message": "This model's maximum context length is 8192", "code": "context_length_exceeded"}),
    "unauthorized": (401, {"message": "Incorrect API key provided: {key}", "code": "invalid_api_key"}),
    "forbidden": (403, {"message": "No access with {key}", "code": "forbidden"}),
    "not_found": (404, {"message": "The model does not exist", "code": "model_not_found"}),
    "rate_limited": (429, {"message": "Rate limit reached for {key}", "code": "rate_limit_exceeded"}),
    "out_of_quota": (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    "server_error": (500, {"message": "Internal error while serving {key}", "code": "internal"}),
    "unavailable": (503, {"message": "Overloaded", "code": "overloaded"}),
}
BODY_FAULTS = ("truncated", "cut_off", "junk", "drop", "hang")
UNUSABLE: dict[str, Body] = {
    "null_content": {"message": {"role": "assistant", "content": None}},
    "refused": {"message": {"role": "assistant", "content": None, "refusal": "I will not."}},
    "filtered": {"message": {"role": "assistant", "content": None}, "finish_reason": "content_filter"},
    "only_reasoning": {
        "message": {"role": "assistant", "content": "", "reasoning_content": "Hm. [[9]]?"},
        "finish_reason": "length",
    },
    "odd_content": {"message": {"role": "assistant", "content": {"text": 7}}},
    "no_message": {"message": None},
}
"""Choices without usable words, billed like any other; `empty_choices` is one more."""
UNUSABLE_FAULTS = ("empty_choices", *UNUSABLE)
TRANSIENT_FAULTS = ("rate_limited", "server_error", "unavailable", *BODY_FAULTS)


@dataclass(frozen=True)
class Call:
    """One request as it arrived; `fault` is None where it was meant to be answered well."""

    path: str
    headers: Mapping[str, str]
    body: Body
    fault: str | None
    time_s: float

    @property
    def content(self) -> str:
        """The last message's text."""
        return str(self.body["messages"][-1]["content"])


class JudgeServer:
    """Serves until the `with` block ends.

    reply(body): the assistant's text. logprobs(body): first-token log-probabilities by token, for calls that ask for
    them; without it the server has none, as many servers do. fault(body, n): the name of a fault of `STATUS_FAULTS`,
    `BODY_FAULTS` or `UNUSABLE_FAULTS` for the n-th arrival (0, 1, …) of this very body, or None to answer it.
    before_answer(body): called when a call is about to be answered. refuses(body): an error body of status 400, if any.
    `hang` answers nothing for `hang_s`; `rate_limited` says Retry-After (`retry_after` if given, else the seconds).
    """

    def __init__(
        self,
        reply: Callable[[Body], str],
        *,
        logprobs: Callable[[Body], Mapping[str, float]] | None = None,
        fault: Callable[[Body, int], str | None] = lambda body, n: None,
        before_answer: Callable[[Body], None] = lambda body: None,
        refuses: Callable[[Body], Body | None] = lambda body: None,
        latency_s: float = 0.0,
        hang_s: float = 30.0,
        retry_after_s: float = 0.0,
        retry_after: Callable[[], str] | None = None,
        prompt_tokens: Callable[[Body], int] = lambda body: sum(len(m["content"].split()) for m in body["messages"]),
        counts_tokens: bool = True,
        junk: str = "<html><body>We are back soon.</body></html>",
        redirect_to: str | None = None,
        completion_tokens: Callable[[Body, str], int] = lambda body, text: min(len(text.split()), cap_of(body)),
    ) -> None:
        self.reply = reply
        self.logprobs = logprobs
        self.fault = fault
        self.before_answer = before_answer
        self.refuses = refuses
        self.latency_s = latency_s
        self.hang_s = hang_s
        self.retry_after = retry_after or (lambda: f"{retry_after_s:g}")
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.counts_tokens = counts_tokens
        self.junk = junk
        self.redirect_to = redirect_to
        self.calls: list[Call] = []
        self.billed_tokens = 0
        """Of all completions begun, heard by their caller or not; unlike refusals these cost money."""
        self.answered: Counter[str] = Counter()
        """How often each body (canonical JSON) was answered well, with its caller still there to hear it."""
        self.lock = threading.Lock()
        self.billing = threading.Lock()
        self.closing = threading.Event()
        self._arrivals: Counter[str] = Counter()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> JudgeServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._server.errors and error is None:
            raise self._server.errors[0]

    @property
    def url(self) -> str:
        """The server's root, which is an Azure endpoint too."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self) -> str:
        """What OpenAI clients call the base URL."""
        return f"{self.url}/v1"

    @property
    def answered_total(self) -> int:
        """Calls answered well."""
        with self.lock:
            return sum(self.answered.values())

    def answered_once(self) -> bool:
        """Whether some call was answered well and none twice."""
        with self.lock:
            return bool(self.answered) and set(self.answered.values()) == {1}

    def register(self, path: str, headers: Mapping[str, str], body: Body, time_s: float) -> Call:
        """Note a call's arrival and decide its fate."""
        with self.lock:
            key = canonical(body)
            call = Call(path, headers, body, self.fault(body, self._arrivals[key]), time_s)
            self._arrivals[key] += 1
            self.calls.append(call)
        return call


class Gate:
    """A `before_answer` that lets answers through up to `limit` in all and holds the others back.

    So a caller can be killed with no answer on its way to it, which would be lost and have to be asked for again.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.limit = 0
        self.passed = 0
        self.waiting = 0
        self.dropping = False

    def __call__(self, body: Body) -> None:
        with self.changed:
            self.waiting += 1
            self.changed.wait_for(lambda: self.dropping or self.passed < self.limit, timeout=30)
            self.waiting -= 1
            self.passed += not self.dropping

    def raise_to(self, limit: int) -> None:
        """Let more through, but not those who wait for a caller that was killed meanwhile."""
        self.dropping = True
        while self.waiting:
            with self.changed:
                self.changed.notify_all()
            time.sleep(0.01)
        with self.changed:
            self.dropping, self.limit = False, limit


def wait_until(condition: Callable[[], bool], most_s: float = 20) -> None:
    """Wait until the condition holds."""
    until_s = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def cap_of(body: Body) -> int:
    """The most tokens a reply may have, under either name."""
    return int(body.get("max_tokens") or body["max_completion_tokens"])


def canonical(body: Body) -> str:
    """The body's content, whatever the order of its fields."""
    return json.dumps(body, sort_keys=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.errors: list[BaseException] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up or are killed are part of the tests; anything else is a mistake in the script."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)


def _handler_of(server: JudgeServer) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"judge": server})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    judge: JudgeServer

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing on stderr."""

    def do_POST(self) -> None:
        arrived_s = time.monotonic()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.judge.register(self.path, dict(self.headers), body, arrived_s)
        if self.judge.latency_s:
            self.judge.closing.wait(self.judge.latency_s)
        if self.judge.redirect_to is not None:
            self._send(307, b"", {"Location": f"{self.judge.redirect_to}/chat/completions"})
        elif (refusal := self.judge.refuses(body)) is not None:
            self._send(400, json.dumps({"error": refusal}).encode())
        elif call.fault in STATUS_FAULTS:
            self._send_status(call.fault)
        elif call.fault is not None:
            self._send_broken(call.fault, body)
        else:
            self.judge.before_answer(body)
            self._answer(body)

    def _answer(self, body: Body) -> None:
        payload = json.dumps(completion(self.judge, body)).encode()
        with self.judge.lock:  # counted and sent in one step, so that nobody sees the one without the other
            if self._caller_is_there():
                self.judge.answered[canonical(body)] += 1
                self._send(200, payload)

    def _caller_is_there(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))

    def _send_status(self, fault: str) -> None:
        status, error = STATUS_FAULTS[fault]
        echoed = self.headers.get("Authorization") or self.headers.get("api-key") or "nobody"
        message = error["message"].replace("{key}", echoed)  # real servers and proxies echo keys
        headers = {"Retry-After": self.judge.retry_after()} if fault == "rate_limited" else {}
        self._send(status, json.dumps({"error": {**error, "message": message}}).encode(), headers)

    def _send_broken(self, fault: str, body: Body) -> None:
        whole = json.dumps(completion(self.judge, body)).encode()
        if fault == "truncated":
            self._send(200, whole[: len(whole) // 2])
        elif fault == "cut_off":
            self._send(200, whole[: len(whole) // 2], {"Content-Length": str(len(whole))})
            self.close_connection = True
        elif fault == "junk":
            self._send(200, self.judge.junk.encode(), {"Content-Type": "text/html"})
        elif fault in UNUSABLE_FAULTS:
            value = json.loads(whole)
            value["choices"] = [{**value["choices"][0], **UNUSABLE[fault]}] if fault in UNUSABLE else []
            self._send(200, json.dumps(value).encode())
        elif fault == "hang":
            self.judge.closing.wait(self.judge.hang_s)
            self.close_connection = True
        else:
            assert fault == "drop", fault
            self.close_connection = True

    def _send(self, status: int, payload: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(payload), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(payload)


def completion(judge: JudgeServer, body: Body) -> Body:
    """A chat completion as OpenAI's servers write it."""
    text = judge.reply(body)
    tokens = judge.prompt_tokens(body), judge.completion_tokens(body, text)
    with judge.billing:
        judge.billed_tokens += sum(tokens)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "length" if tokens[1] >= cap_of(body) else "stop",
        "logprobs": _logprobs(judge, body),
    }
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", "deployment"),
        "choices": [choice],
        **({"usage": usage} if judge.counts_tokens else {}),
    }


def _logprobs(judge: JudgeServer, body: Body) -> Body | None:
    if judge.logprobs is None or not body.get("logprobs"):
        return None
    likeliest = sorted(judge.logprobs(body).items(), key=lambda pair: -pair[1])[: body["top_logprobs"]]
    rows = [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in likeliest]
    return {"content": [{**rows[0], "top_logprobs": rows}]}
