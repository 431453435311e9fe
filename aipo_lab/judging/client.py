"""The one client of servers: OpenAI, Azure OpenAI and everything that speaks the same protocol; judges and engines."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from aipo_lab.core.errors import UserError
from aipo_lab.judging.asking import Asking
from aipo_lab.judging.calling import Caller, Wire
from aipo_lab.judging.calls import JudgeRequest
from aipo_lab.judging.dialect import Dialect
from aipo_lab.judging.endpoint import Endpoint, find_endpoint
from aipo_lab.judging.money import Purse, find_price
from aipo_lab.judging.server import ServerSettings
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.judging.store import CallStore
from aipo_lab.judging.stored import R, Settle, StoredJudge

T = TypeVar("T")


class ApiClient(StoredJudge[R]):
    """Asks a server, many calls at once; `ask` may be called from any thread, also where an event loop runs.

    Raises `UserError` if key or address are missing, or for a cost limit without a known price.
    """

    prices_setting = "prices"

    def __init__(
        self,
        settings: ServerSettings,
        store: CallStore,
        budget: Purse,
        endpoint: Endpoint,
        wire: Wire,
        shared: Path | None = None,
    ) -> None:
        """`shared`: where the processes that share the server's limits meet; by default the store's folder."""
        super().__init__(settings.model, store)
        self.caller = Caller(settings, endpoint, shared or store.folder, wire)
        self._budget = budget
        self._price = find_price(settings.model, settings.prices)
        if self._price is None and budget.limit_usd is not None:
            raise UserError(
                f"a cost limit needs the price of the {settings.who} {settings.model!r}, which is unknown: add it to "
                f"the {settings.who}'s settings, e.g. prices: {{{settings.model}: {{input: 2.5, output: 10}}}} (USD "
                f"per million tokens; 0 for a server of your own), on the command line --set "
                f"'{self.prices_setting}={{…}}'; or leave {settings.limit_setting} out"
            )

    def _unit(self) -> str:
        return "calls (price unknown)" if self._price is None else f"calls (${self._budget.spent_usd:.2f})"

    def _answer(self, calls: Mapping[str, R], settle: Settle) -> None:
        run_async(Asking(calls, settle, self.caller, self._store, self._budget, self._price).run())


class ApiJudge(ApiClient[JudgeRequest]):
    """A judge that is a server; see `ApiClient` for errors."""

    prices_setting = "benchmarks.judge.prices"

    def __init__(self, settings: JudgeSettings, store: CallStore, budget: Purse) -> None:
        endpoint = find_endpoint(settings)
        super().__init__(settings, store, budget, endpoint, Dialect(endpoint.url, settings.served_model))


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where an event loop runs already."""
    if _loop_is_running():
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, work).result()
    return asyncio.run(work)


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
