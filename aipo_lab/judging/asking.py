"""One piece of work's calls to a server: concurrent workers that claim, pay for and store one after the other."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calling import Caller, counted_tokens
from aipo_lab.judging.calls import JudgeReply, Outcome, ServerRequest, Unanswered, count_calls, outcome_of
from aipo_lab.judging.completion import NO_LOGPROBS
from aipo_lab.judging.money import BudgetReached, Price, Purse, estimate_cost, usd_text
from aipo_lab.judging.replies import Fault, OutOfTime, Refusal
from aipo_lab.judging.store import CallStore
from aipo_lab.judging.stored import Settle
from aipo_lab.judging.streaks import Streaks

if TYPE_CHECKING:
    from aiohttp import ClientSession

POLL_S = 0.02
"""Between two looks at a call that another process makes, or at a budget that running calls hold."""
STAGGER_S = 0.0015
"""Between the starts of two workers, so that replies do not come back in bursts that wait for each other."""


class _Stopped(Exception):
    """Everything stops before this call was sent."""


class Asking:
    """Answers `calls` (by hash) until all are settled or something stops it. Used once, inside an event loop."""

    def __init__(
        self,
        calls: Mapping[str, ServerRequest],
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
        self._work_name = caller.settings.work
        self._n_answered = 0
        self._streaks = Streaks(caller.settings.concurrency)
        self._turn_lock = asyncio.Lock()
        self._stop = asyncio.Event()
        self._error: UserError | None = None
        self._out_of_money = False
        self._give_up_reason = f"the deadline of the {caller.settings.work} passed"
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

    async def _answer(self, session: ClientSession, call: str, request: ServerRequest) -> Outcome | None:
        """The outcome of a claimed call; None if it is not to be made because everything stops."""
        stored = self._store.find(call)  # another process may have been first
        if stored is not None:
            return outcome_of(request, stored)
        try:
            reply = await self._caller.call(
                partial(self._turn, request), partial(self._try, session, call, request), self._pause
            )
        except _Stopped:
            return None
        except Refusal as refusal:
            self._give_up(self._streaks.useless(str(refusal)))
            return Unanswered(str(refusal))
        except Fault as fault:
            if not isinstance(fault, OutOfTime):
                self._give_up(self._streaks.failed(str(fault)))
            return Unanswered(str(fault))
        return self._answered(request, reply)

    def _answered(self, request: ServerRequest, reply: JudgeReply) -> Outcome:
        self._n_answered += 1
        if not reply.problem:
            self._streaks.usable()
        elif reply.problem == NO_LOGPROBS:
            raise self._caller.wire.no_logprobs(reply.problem)
        else:
            self._give_up(self._streaks.useless(reply.problem))
        return outcome_of(request, reply)

    async def _try(self, session: ClientSession, call: str, request: ServerRequest) -> JudgeReply:
        """Send a call once, store its reply and book what it cost, or its worst case where nobody knows."""
        bound_usd = self._price.most_usd(request) if self._price else 0.0
        slot = await self._slot()
        try:
            reserved_usd = await self._reserve(bound_usd)
            cost_usd, lost_usd, is_answered = None, reserved_usd, False
            try:
                reply = await self._caller.send(session, request)
                cost_usd, lost_usd, is_answered = self._price.reply_usd(reply) if self._price else None, 0.0, True
                self._store.put(call, request, reply, cost_usd)
                return reply
            except (Fault, Refusal, UserError) as failed:
                lost_usd = lost_usd if isinstance(failed, Fault) and failed.may_have_cost else 0.0
                raise
            finally:
                spent_usd = cost_usd or 0.0
                beyond_usd = max(0.0, spent_usd - bound_usd)
                self._budget.settle(
                    reserved_usd, spent_usd, lost_usd=lost_usd, beyond_usd=beyond_usd, answered=is_answered
                )
        finally:
            self._caller.slots.give_back(slot)

    async def _turn(self, request: ServerRequest) -> None:
        """Wait for a start within the limits per minute; one call of this process after the other."""
        async with self._turn_lock:
            while wait_s := self._caller.pace.wait_s(counted_tokens(request)):
                await self._pause(wait_s, f"the {self._work_name} ended before its turn within the limits per minute")

    async def _slot(self) -> int:
        """Wait for one of the places of calls under way."""
        while (slot := self._caller.slots.take()) is None:
            await self._sleep(POLL_S)
            if self._stop.is_set():
                raise _Stopped
        return slot

    async def _reserve(self, bound_usd: float) -> float:
        """Set a call's worst case aside, waiting for what running calls may give back; returns how much.

        Raises `_Stopped` if that is not enough. The first call of all is made alone: what a server bills beyond the
        bound is then known before the limit is near.
        """
        while not self._stop.is_set():
            most_usd = bound_usd + self._budget.beyond_usd
            if self._budget.reserve(most_usd, first_alone=True):
                return most_usd
            if not self._budget.has_reservations and not self._budget.could_pay(most_usd):
                self._out_of_money = True
                self._stop.set()
            await self._sleep(POLL_S)
        raise _Stopped

    def _give_up(self, reason: str | None) -> None:
        if reason is not None and not self._stop.is_set():
            self._give_up_reason = reason
            self._stop.set()

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
        lost_usd, limit = self._budget.lost_usd, self._caller.settings.limit_setting
        lost = f" and {usd_text(lost_usd)} that calls without an answer may have cost" if lost_usd else ""
        stored = "was answered and is stored" if self._n_answered == 1 else "were answered and are stored"
        return BudgetReached(
            f"the next call could pass the cost limit of {usd_text(self._budget.limit_usd or 0)}: "
            f"{usd_text(self._budget.spent_usd)} spent{lost}\n"
            f"{count_calls(self._n_answered)} of this {self._work_name} {stored}, what is left: {left}.\n"
            f"Run the same command again with a higher {limit}: it goes on from here and pays nothing twice"
        )
