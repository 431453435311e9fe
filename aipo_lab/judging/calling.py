"""Making one call of an OpenAI-compatible server: what is sent, how long it is tried, what comes back.

Straight on aiohttp: through the openai package a call cost 1.4 to 2.0 ms of a core here, which alone would miss 90 % of
the ideal rate at 640 calls/s, against 0.2 ms; and only its addresses and headers would be used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.judging.calls import JudgeReply, ServerRequest
from aipo_lab.judging.endpoint import Endpoint
from aipo_lab.judging.pacing import Pace, Slots, backoff_wait_s, limits_path
from aipo_lab.judging.replies import Fault, NoLogprobs, OutOfTime, ServerError, error_of, failure
from aipo_lab.judging.server import ServerSettings

if TYPE_CHECKING:
    from aiohttp import ClientSession

Turn = Callable[[], Awaitable[None]]
"""Waits until a call may start within the limits per minute."""
Reply = TypeVar("Reply")
Try = Callable[[], Awaitable[Reply]]
"""Sends the call once; raises as `Caller.send` does."""
Pause = Callable[[float, str], Awaitable[None]]
"""Sleeps for the seconds given; raises `OutOfTime` with the reason given if the time is up before that."""


class Wire(Protocol):
    """How requests of one kind are put to a server, and its replies read."""

    def body(self, request: Any) -> dict[str, Any]:
        """What is sent."""
        ...

    def learns(self, body: dict[str, Any], status: int, error: ServerError) -> bool:
        """Whether a refusal of `body` tells how to ask instead, so that `body()` now gives something else."""
        ...

    def read(self, received: bytes, request: Any) -> JudgeReply:
        """The reply in a body of status 200.

        Raises `Fault` for one that is none, `UserError` for a server that will give no other.
        """
        ...

    def no_logprobs(self, said: str) -> UserError:
        """The error of a server that lacks log-probabilities where they are needed."""
        ...


LONGEST_RETRY_AFTER_S = 300.0
"""A server that wants a longer wait is out of service for this run."""


class Caller:
    """Makes calls one by one; safe to share between threads, each with a session of its own."""

    def __init__(self, settings: ServerSettings, endpoint: Endpoint, shared: Path, wire: Wire) -> None:
        """`shared`: the folder where the processes that share the server's limits meet."""
        self.settings = settings
        self.endpoint = endpoint
        self.wire = wire
        model = settings.served_model
        limits = partial(limits_path, shared, endpoint.url, model)
        self.pace = Pace(limits("pace"), settings.requests_per_minute, settings.tokens_per_minute)
        self.slots = Slots(limits("slots"), settings.concurrency)

    def session(self) -> ClientSession:
        """A session for the running event loop; to be closed by `async with`."""
        try:
            from aiohttp import ClientSession, ClientTimeout, TCPConnector
        except ImportError:
            who = self.settings.who
            raise MissingDependency(f"{who}s that are servers need aiohttp: pip install aiohttp") from None
        return ClientSession(
            connector=TCPConnector(limit=self.settings.concurrency),
            timeout=ClientTimeout(total=self.settings.timeout_s),
            headers=self.endpoint.headers,
            trust_env=not self.endpoint.is_loopback,  # proxies; none lies between this machine and itself
        )

    async def call(self, turn: Turn, attempt_once: Try[Reply], pause: Pause) -> Reply:
        """The reply, after as many tries as it takes.

        Raises `Fault` when tries or time are used up, and what `turn`, `attempt_once` and `pause` raise.
        """
        for attempt in range(1, self.settings.attempts + 1):
            await turn()
            try:
                return await attempt_once()
            except OutOfTime:
                raise
            except Fault as fault:
                tried = f"{fault} (tried {'once' if attempt == 1 else f'{attempt} times'})"
                if attempt == self.settings.attempts or fault.retry_after_s > LONGEST_RETRY_AFTER_S:
                    raise Fault(tried) from None
                wait_s = max(fault.retry_after_s, backoff_wait_s(attempt, self.settings.backoff_s))
            await pause(wait_s, f"{tried}; the {self.settings.work} ended before the next try")
        raise AssertionError("there is at least one attempt")

    async def send(self, session: ClientSession, request: ServerRequest) -> JudgeReply:
        """One try: the reply to the request, sent again at once where the server wants it put otherwise.

        Raises `Fault` if the next try may succeed, `Refusal` if the server will never answer this request, `UserError`
        if it will answer none.
        """
        while True:
            body = self.wire.body(request)
            status, headers, received = await self._post(session, body)
            if status == 200:
                return self.wire.read(received, request)
            error = error_of(received)
            if not self.wire.learns(body, status, error):
                break
        failed = failure(status, headers, error, self.endpoint.key_variable, self.settings.who)
        raise self.wire.no_logprobs(str(failed)) if isinstance(failed, NoLogprobs) else failed

    async def look(self, session: ClientSession, url: str) -> tuple[int, Mapping[str, str], bytes]:
        """What the server says at another of its addresses, asked once; raises `Fault` if it says nothing."""
        return await self._request(session, "GET", url)

    async def _post(self, session: ClientSession, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        return await self._request(session, "POST", self.endpoint.url, json=body)

    async def _request(
        self, session: ClientSession, method: str, url: str, **more: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer."""
        from aiohttp import ClientConnectorError, ClientError

        try:
            # A redirect would carry the key to where the user never sent it.
            async with session.request(method, url, allow_redirects=False, **more) as response:
                return response.status, response.headers, self.endpoint.redact(await response.read())
        except TimeoutError:
            raise Fault(f"no answer within {self.settings.timeout_s:g} s", may_have_cost=True) from None
        except ClientError as error:
            said = str(error).replace(" ssl:default", "")  # aiohttp says so of http addresses too
            arrived = not isinstance(error, ClientConnectorError)
            reason = f"connection failed: {type(error).__name__}: {said}"
            raise Fault(reason, may_have_cost=arrived) from None


def counted_tokens(request: ServerRequest) -> int:
    """What servers count against a limit per minute when a call starts: the prompt, and the reply at its cap."""
    return request.likely_prompt_tokens() + request.max_tokens
