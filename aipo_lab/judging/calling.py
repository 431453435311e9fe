"""Making one call of an OpenAI-compatible server: what is sent, how long it is tried, what comes back.

Straight on aiohttp: through the openai package a call cost 1.4 to 2.0 ms of a core here, which alone would miss 90 % of
the ideal rate at 640 calls/s, against 0.2 ms; and only its addresses and headers would be used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.judging.calls import JudgeReply, JudgeRequest
from aipo_lab.judging.endpoint import Endpoint
from aipo_lab.judging.money import likely_prompt_tokens
from aipo_lab.judging.pacing import Pace, backoff_wait_s
from aipo_lab.judging.replies import Fault, NoLogprobs, failure, read_reply
from aipo_lab.judging.settings import JudgeSettings

if TYPE_CHECKING:
    from aiohttp import ClientSession

Pause = Callable[[float, str], Awaitable[None]]
"""Sleeps for the seconds given; raises `OutOfTime` with the reason given if the time is up before that."""

LONGEST_RETRY_AFTER_S = 300.0
"""A server that wants a longer wait is out of service for this run."""


class Caller:
    """Makes calls one by one; safe to share between threads, each with a session of its own."""

    def __init__(self, settings: JudgeSettings, endpoint: Endpoint) -> None:
        self.settings = settings
        self.endpoint = endpoint
        self.request_pace = Pace(settings.requests_per_minute)
        self.token_pace = Pace(settings.tokens_per_minute)

    def session(self) -> ClientSession:
        """A session for the running event loop; to be closed by `async with`."""
        try:
            from aiohttp import ClientSession, ClientTimeout, TCPConnector
        except ImportError:
            raise MissingDependency("judges that are servers need aiohttp: pip install aiohttp") from None
        return ClientSession(
            connector=TCPConnector(limit=self.settings.concurrency),
            timeout=ClientTimeout(total=self.settings.timeout_s),
            headers=self.endpoint.headers,
            trust_env=not self.endpoint.is_loopback,  # proxies; none lies between this machine and itself
        )

    async def call(self, session: ClientSession, request: JudgeRequest, pause: Pause) -> JudgeReply:
        """The reply, after as many tries as it takes.

        Raises `Fault` when tries or time are used up, `Refusal` if the server will never answer this request,
        `UserError` if it will answer none, and what `pause` raises.
        """
        for attempt in range(1, self.settings.attempts + 1):
            wait_s = max(self.request_pace.wait_s(), self.token_pace.wait_s(_counted_tokens(request)))
            await pause(wait_s, "the evaluation ended before its turn within the limits per minute")
            try:
                return await self._try(session, request)
            except Fault as fault:
                tried = f"{fault} (tried {'once' if attempt == 1 else f'{attempt} times'})"
                if attempt == self.settings.attempts or fault.retry_after_s > LONGEST_RETRY_AFTER_S:
                    raise Fault(tried) from None
                wait_s = max(fault.retry_after_s, backoff_wait_s(attempt, self.settings.backoff_s))
            await pause(wait_s, f"{tried}; the evaluation ended before the next try")
        raise AssertionError("there is at least one attempt")

    async def _try(self, session: ClientSession, request: JudgeRequest) -> JudgeReply:
        from aiohttp import ClientError

        body = self._body(request)
        try:
            # A redirect would carry the key to where the user never sent it.
            async with session.post(self.endpoint.url, json=body, allow_redirects=False) as response:
                received = self.endpoint.redact(await response.read())
        except TimeoutError:
            raise Fault(f"no answer within {self.settings.timeout_s:g} s") from None
        except ClientError as error:
            said = str(error).replace(" ssl:default", "")  # aiohttp says so of http addresses too
            raise Fault(f"connection failed: {type(error).__name__}: {said}") from None
        try:
            if response.status == 200:
                return read_reply(received, request)
            raise failure(response.status, response.headers, received, self.endpoint.key_variable)
        except NoLogprobs as error:
            raise UserError(
                f"the judge {self.settings.model} gives no log-probabilities{f' ({error})' if str(error) else ''}; "
                "alpaca_eval needs those of the first token: use a judge model and server that return them for "
                "`logprobs` and `top_logprobs`, or leave that benchmark out (arena_hard and mt_bench need none)"
            ) from None

    def _body(self, request: JudgeRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.settings.deployment or self.settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        return body | ({"logprobs": True, "top_logprobs": request.top_logprobs} if request.top_logprobs else {})


def _counted_tokens(request: JudgeRequest) -> int:
    """What servers count against a limit per minute when a call starts: the prompt, and the reply at its cap."""
    return likely_prompt_tokens(request) + request.max_tokens
