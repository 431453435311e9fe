"""A completions server on 127.0.0.1 around a policy: tokens in and out as vLLM's has them, and faults on purpose.

    with CompletionServer(policy, folder) as server:
        settings = OpenaiEngineSettings(model=MODEL, base_url=server.base_url)

`fault(body, n)`: the name of a fault for the n-th arrival (0, 1, …) of this very body, or None to answer it well.
`served` changes choices before they are sent. Prompts given as text are tokenised here, with a begin token.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import torch

from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.chat import encode_text_prompt
from aipo_lab.models.policy import Policy

MODEL = "served"
STATUS_FAULTS = {
    "unauthorized": (401, "Incorrect API key provided"),
    "not_found": (404, "The model does not exist"),
    "bad_request": (400, "unknown parameter top_k"),
    "rate_limited": (429, "Rate limit reached"),
    "rate_limited_wait": (429, "Rate limit reached"),
    "server_error": (500, "Internal error"),
}
RETRY_AFTER_S = 1
SAMPLING_NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
Body = dict[str, Any]


class CompletionServer:
    """Serves until the `with` block ends."""

    def __init__(
        self,
        policy: Policy,
        folder: Path | None,
        *,
        fault: Callable[[Body, int], str | None] = lambda body, n: None,
        served: Callable[[Body, Body], Any] = lambda choice, body: choice,
        models: Any = None,
        hang_s: float = 30.0,
    ) -> None:
        self.policy = policy
        self.fault = fault
        self.served = served
        self.hang_s = hang_s
        entry = {"id": MODEL, "object": "model"} | ({"root": str(folder)} if folder else {})
        self.models = {"object": "list", "data": [entry]} if models is None else models
        self.bodies: list[Body] = []
        self.keys: list[str | None] = []
        self.answered: Counter[str] = Counter()
        self._arrivals: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> CompletionServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def arrive(self, body: Body, key: str | None) -> str | None:
        """Note a call; returns its fault."""
        text = json.dumps(body, sort_keys=True)
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            n, self._arrivals[text] = self._arrivals[text], self._arrivals[text] + 1
        return self.fault(body, n)

    def reply(self, body: Body) -> Body:
        """A completion object; one call at a time computes."""
        tokenizer = self.policy.tokenizer
        given = body["prompt"]
        prompt = encode_text_prompt(tokenizer, given) if isinstance(given, str) else given
        with self._lock:
            rows = self._sample(prompt, body)
            choices = [self._choice(one, index, prompt, body) for index, one in enumerate(rows)]
            self.answered[json.dumps(body, sort_keys=True)] += 1
        usage = {"prompt_tokens": len(prompt), "completion_tokens": sum(one.n_tokens for one in rows)}
        return {"object": "text_completion", "choices": choices, "usage": usage}

    def _sample(self, prompt: list[int], body: Body) -> list[Completion]:
        given = {name: body[name] for name in SAMPLING_NAMES if name in body}
        sampling = SamplingConfig(max_new_tokens=body["max_tokens"], **given)
        engine = TransformersEngine(self.policy, 8)
        ends = body.get("stop_token_ids", [])
        (row,) = engine.generate([prompt], body["n"], sampling, body["seed"], body.get("stop", ()), ends)
        return row

    def _choice(self, one: Completion, index: int, prompt: list[int], body: Body) -> Any:
        choice: Body = {"index": index, "text": one.text, "finish_reason": one.finish_reason}
        if body.get("return_token_ids"):
            choice |= {"token_ids": one.token_ids, "prompt_token_ids": prompt}
        if body.get("logprobs"):
            choice["logprobs"] = {"token_logprobs": logprobs_by_hand(self.policy, prompt, one.token_ids)}
        return self.served(choice, body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                status, value = server.models if isinstance(server.models, tuple) else (200, server.models)
                self.send(status, json.dumps(value).encode() if not isinstance(value, bytes) else value)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fault = server.arrive(body, self.headers.get("Authorization"))
                if fault in STATUS_FAULTS:
                    status, message = STATUS_FAULTS[fault]
                    wishes = {"Retry-After": str(RETRY_AFTER_S)} if fault == "rate_limited_wait" else {}
                    self.send(status, json.dumps({"error": {"message": message, "code": fault}}).encode(), wishes)
                elif body["n"] > 1 and not body["temperature"]:  # so does vLLM's server
                    message = f"n must be 1 when using greedy sampling, got {body['n']}."
                    self.send(400, json.dumps({"error": {"message": message}}).encode())
                elif fault == "hang":
                    until_s = time.monotonic() + server.hang_s
                    while time.monotonic() < until_s and not server._closing.wait(0.02):
                        pass
                elif fault == "junk":
                    self.send(200, b"<html>We are back soon.</html>")
                elif fault == "no_choices":
                    self.send(200, b'{"object": "text_completion", "choices": []}')
                elif fault == "cut_off":
                    self.send(200, json.dumps(server.reply(body)).encode()[:-20])
                else:
                    self.send(200, json.dumps(server.reply(body)).encode())

            def send(self, status: int, content: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass  # the caller has gone

        return Handler


def logprobs_by_hand(policy: Policy, prompt: list[int], tokens: list[int]) -> list[float]:
    """The log-probability of every token after the prompt, from one forward pass."""
    if not tokens:
        return []
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    picked = logits.float().log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])
    return [float(value) for value in picked[:, 0]]
