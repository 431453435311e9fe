"""Judges that are servers: OpenAI, Azure OpenAI and everything that speaks the same protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from aipo_lab.core.errors import UserError
from aipo_lab.judging.asking import Asking
from aipo_lab.judging.calling import Caller
from aipo_lab.judging.calls import JudgeRequest
from aipo_lab.judging.endpoint import find_endpoint
from aipo_lab.judging.money import Purse, find_price
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.judging.store import CallStore
from aipo_lab.judging.stored import Settle, StoredJudge


class ApiJudge(StoredJudge):
    """Asks a server, many calls at once; `ask` may be called from any thread, also where an event loop runs.

    Raises `UserError` if key or address are missing, or for a cost limit without a known price.
    """

    def __init__(self, settings: JudgeSettings, store: CallStore, budget: Purse) -> None:
        super().__init__(settings.model, store)
        self._caller = Caller(settings, find_endpoint(settings), store.folder)
        self._budget = budget
        self._price = find_price(settings.model, settings.prices)
        if self._price is None and budget.limit_usd is not None:
            raise UserError(
                f"a cost limit needs the price of the judge {settings.model!r}, which is unknown: add it to the "
                f"judge's settings, e.g. prices: {{{settings.model}: {{input: 2.5, output: 10}}}} (USD per million "
                "tokens; 0 for a server of your own), on the command line --set 'benchmarks.judge.prices={…}'; "
                "or leave --max-cost out"
            )

    def _unit(self) -> str:
        return "calls (price unknown)" if self._price is None else f"calls (${self._budget.spent_usd:.2f})"

    def _answer(self, calls: Mapping[str, JudgeRequest], settle: Settle) -> None:
        async def answer() -> None:
            await Asking(calls, settle, self._caller, self._store, self._budget, self._price).run()

        if _loop_is_running():
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, answer()).result()
        else:
            asyncio.run(answer())


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
