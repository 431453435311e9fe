"""One evaluation's calls of an API judge: concurrent workers that claim, pay for and store one call after the other."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calling import Caller
from aipo_lab.judging.calls import JudgeReply, JudgeRequest, Outcome, Unanswered, count_calls
from aipo_lab.judging.money import BudgetReached, Price, Purse, estimate_cost, usd_text
from aipo_lab.judging.replies import Fault, OutOfTime, Refusal
from aipo_lab.judging.store import CallStore
from aipo_lab.judging.stored import Settle

if TYPE_CHECKING:
    from aiohttp import ClientSession

POLL_S = 0.02
"""Between two looks at a call that another process makes, or at a budget that running calls hold."""
STAGGER_S = 0.0015
"""Between the starts of two workers, so that replies do not come back in bursts that wait for each other."""
FEWEST_FAILURES_IN_A_ROW = 16
"""A server that failed this many calls in a row (or twice the concurrency, if more) is taken to be down."""


class Asking:
    """Answers `calls` (by hash) until all are settled or something stops it. Used once, inside an event loop."""

    def __init__(
        self,
        calls: Mapping[str, JudgeRequest],
        settle: Settle,
        caller: Caller,
        store: CallStore,
        budget: Purse,
        price: Price | None,
    ) -> None:
        self._pending = deque(calls.items())
        self._settle = settle
        self._caller = caller
        self._store = store
        self._budget = budget
        self._price = price
        self._n_answered = 0
        self._n_failed_in_a_row = 0
        self._stop = asyncio.Event()
        self._error: UserError | None = None
        self._out_of_money = False
        self._give_up_reason = "the deadline of the evaluation passed"
        self._deadline_s = time.monotonic() + (caller.settings.deadline_s or float("inf"))

    async def run(self) -> None:
        """Settle the calls. Raises `UserError` or `BudgetReached` after the calls under way have ended."""
        async with self._caller.session() as session, asyncio.TaskGroup() as workers:
            for number in range(min(self._caller.settings.concurrency, len(self._pending))):
                workers.create_task(self._work(session, number * STAGGER_S))
        if self._error is not None:
            raise self._error
        if self._out_of_money:
            raise self._budget_reached()
        for call, _ in self._pending:
            self._settle(call, Unanswered(f"not asked: {self._give_up_reason}"))

    async def _work(self, session: ClientSession, start_after_s: float) -> None:
        await self._sleep(start_after_s)
        while self._pending and not self._stop.is_set():
            if time.monotonic() > self._deadline_s:
                self._stop.set()
                return
            call, request = self._pending.popleft()
            outcome = None
            try:
                with self._store.claim(call) as claimed:
                    if claimed:
                        outcome = await self._answer(session, call, request)
            except UserError as error:
                self._error = self._error or error
                self._stop.set()
            if outcome is not None:
                self._settle(call, outcome)
            else:  # another process makes this call, or everything stops
                self._pending.append((call, request))
                await self._sleep(POLL_S)

    async def _answer(self, session: ClientSession, call: str, request: JudgeRequest) -> Outcome | None:
        """The outcome of a claimed call; None if it is not to be made because everything stops."""
        stored = self._store.find(call)  # another process may have been first
        if stored is not None:
            return stored
        most_usd = self._price.most_usd(request) if self._price else 0.0
        if not await self._reserve(most_usd):
            return None
        cost_usd: float | None = None
        reply: JudgeReply | None = None
        try:
            reply = await self._caller.call(session, request, self._pause)
            cost_usd = self._price.reply_usd(reply) if self._price else None
            self._store.put(call, request, reply, cost_usd)
        except (Fault, Refusal) as failed:
            return self._unanswered(failed)
        finally:
            self._budget.settle(most_usd, cost_usd or 0.0, answered=reply is not None)
        self._n_answered += 1
        self._n_failed_in_a_row = 0
        return reply

    async def _reserve(self, most_usd: float) -> bool:
        """Set a call's worst case aside, waiting for what running calls may give back; False if that is not enough."""
        while not self._stop.is_set():
            if self._budget.reserve(most_usd):
                return True
            if not self._budget.has_reservations and not self._budget.could_pay(most_usd):
                self._out_of_money = True
                self._stop.set()
            await self._sleep(POLL_S)
        return False

    def _unanswered(self, failed: Fault | Refusal) -> Unanswered:
        if isinstance(failed, Refusal):
            self._n_failed_in_a_row = 0
        elif not isinstance(failed, OutOfTime):
            self._n_failed_in_a_row += 1
        limit = max(FEWEST_FAILURES_IN_A_ROW, 2 * self._caller.settings.concurrency)
        if self._n_failed_in_a_row == limit and not self._stop.is_set():
            self._give_up_reason = f"{limit} calls in a row failed, the last with: {failed}"
            self._stop.set()
        return Unanswered(str(failed))

    async def _pause(self, wait_s: float, reason: str) -> None:
        """Sleep; raises `OutOfTime(reason)` if the deadline comes first or everything stops."""
        if time.monotonic() + wait_s > self._deadline_s:
            raise OutOfTime(reason)
        if wait_s > 0:
            await self._sleep(wait_s)
        if self._stop.is_set():
            raise OutOfTime(reason)

    async def _sleep(self, wait_s: float) -> None:
        """Sleep, but not on after everything stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), wait_s)

    def _budget_reached(self) -> BudgetReached:
        left = estimate_cost((request for _, request in self._pending), self._price)
        lost_usd = self._budget.lost_usd
        lost = f" and {usd_text(lost_usd)} that calls of killed processes may have cost" if lost_usd else ""
        stored = "was answered and is stored" if self._n_answered == 1 else "were answered and are stored"
        return BudgetReached(
            f"the next call could pass the cost limit of {usd_text(self._budget.limit_usd or 0)}: "
            f"{usd_text(self._budget.spent_usd)} spent{lost}\n"
            f"{count_calls(self._n_answered)} of this evaluation {stored}, what is left: {left}.\n"
            "Run the same command again with a higher --max-cost: it goes on from here and pays nothing twice"
        )
