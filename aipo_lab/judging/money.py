"""What judge calls cost: the price table, the estimate before anything runs, and the limit that is never passed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Protocol

from pydantic import Field

from aipo_lab.core.config import StrictModel, read_yaml, validate
from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import CHARACTERS_PER_TOKEN, JudgeReply, ServerRequest, count_calls

PRICES_FILE = Path(__file__).with_name("prices.yaml")


def usd_text(usd: float) -> str:
    """An amount with as many digits as tell something: $12.30, $0.0042."""
    return f"${usd:,.2f}" if usd == 0 or usd >= 0.095 else f"${usd:.4f}"


class BudgetReached(UserError):
    """The next call could pass the cost limit: the message says what is done, what is left and how to go on."""


class Price(StrictModel):
    """USD per million tokens."""

    input: float = Field(ge=0, description="USD per million prompt tokens")
    output: float = Field(ge=0, description="USD per million completion tokens")

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What that many tokens cost."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6

    def reply_usd(self, reply: JudgeReply) -> float:
        """What a reply cost."""
        return self.cost_usd(reply.prompt_tokens, reply.completion_tokens)

    def most_usd(self, request: ServerRequest) -> float:
        """What a call can cost at most."""
        return self.cost_usd(request.most_prompt_tokens(), request.max_tokens)


class PriceTable(StrictModel):
    """The file `prices.yaml`."""

    source: str = Field(description="where the prices were published")
    checked: date = Field(description="when they were last checked")
    models: dict[str, Price] = Field(description="price by model name")


@cache
def price_table() -> PriceTable:
    """The prices that come with aipo-lab."""
    return validate(PriceTable, read_yaml(PRICES_FILE, "price table"), str(PRICES_FILE))


def find_price(model: str, overrides: Mapping[str, Price]) -> Price | None:
    """The price of a model, or None if neither the settings nor the table know it."""
    return overrides.get(model) or price_table().models.get(model)


@dataclass(frozen=True)
class CostEstimate:
    """What calls would use: prompts estimated from their characters, replies counted at their cap.

    `usd` is None where the judge's price is unknown.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None

    def __str__(self) -> str:
        money = "cost unknown (no price for this judge)" if self.usd is None else f"about ${self.usd:,.2f} at most"
        return (
            f"{count_calls(self.calls)}, {money}; an estimate: {self.prompt_tokens:,} prompt tokens (at "
            f"{CHARACTERS_PER_TOKEN} characters each) and {self.completion_tokens:,} completion tokens (at their cap)"
        )


def estimate_cost(requests: Iterable[ServerRequest], price: Price | None) -> CostEstimate:
    """An estimate before anything runs; equal requests count once, as they are asked once."""
    calls = set(requests)
    prompt_tokens = sum(call.likely_prompt_tokens() for call in calls)
    completion_tokens = sum(call.max_tokens for call in calls)
    usd = None if price is None else price.cost_usd(prompt_tokens, completion_tokens)
    return CostEstimate(len(calls), prompt_tokens, completion_tokens, usd)


class Purse(Protocol):
    """What calls are paid from: `Budget` for one process, `aipo_lab.judging.ledger.SharedBudget` for several."""

    @property
    def limit_usd(self) -> float | None:
        """What may be spent; None: any amount."""
        ...

    @property
    def spent_usd(self) -> float:
        """What all settled calls cost."""
        ...

    @property
    def lost_usd(self) -> float:
        """The worst case of calls whose bill nobody knows (killed, timed out, cut off): counts against the limit."""
        ...

    @property
    def beyond_usd(self) -> float:
        """The most that a reply cost beyond its worst case (a server's own system prompt): later calls add it."""
        ...

    @property
    def started_s(self) -> float:
        """When the command began, in seconds since 1970."""
        ...

    @property
    def n_calls(self) -> int:
        """How many calls were answered."""
        ...

    @property
    def has_reservations(self) -> bool:
        """Whether calls are under way, whose unused share will become free."""
        ...

    def could_pay(self, most_usd: float) -> bool:
        """Whether the limit has room for a call apart from those under way; once False, always False."""
        ...

    def reserve(self, most_usd: float, *, first_alone: bool = False) -> bool:
        """Set money aside; False, and nothing set aside, if the limit could be passed.

        `first_alone`: under a limit, False too while another call is under way and nothing was billed so far.
        """
        ...

    def settle(
        self,
        reserved_usd: float,
        spent_usd: float,
        *,
        lost_usd: float = 0.0,
        beyond_usd: float = 0.0,
        answered: bool = True,
    ) -> None:
        """End a reservation: what was spent of it, or may have been (`lost_usd`), is gone, the rest is free again.

        `beyond_usd`: what the call cost beyond its worst case.
        """
        ...


class Budget:
    """Money that concurrent calls share: a call reserves its worst case before it starts and settles it afterwards.

    Counts what this process spends, from its start; safe to share between threads and judges.
    """

    def __init__(self, limit_usd: float | None) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = 0.0
        self.lost_usd = 0.0
        self.beyond_usd = 0.0
        self.started_s = time.time()
        self.n_calls = 0
        self._reserved_usd: list[float] = []
        self._lock = threading.Lock()

    @property
    def has_reservations(self) -> bool:
        """See `Purse.has_reservations`."""
        with self._lock:
            return bool(self._reserved_usd)

    def could_pay(self, most_usd: float) -> bool:
        """See `Purse.could_pay`."""
        with self._lock:
            return self._fits([most_usd])

    def reserve(self, most_usd: float, *, first_alone: bool = False) -> bool:
        """See `Purse.reserve`."""
        with self._lock:
            untried = self.limit_usd is not None and not self.spent_usd and not self.lost_usd and most_usd > 0
            if (first_alone and untried and self._reserved_usd) or not self._fits([*self._reserved_usd, most_usd]):
                return False
            self._reserved_usd.append(most_usd)
            return True

    def settle(
        self,
        reserved_usd: float,
        spent_usd: float,
        *,
        lost_usd: float = 0.0,
        beyond_usd: float = 0.0,
        answered: bool = True,
    ) -> None:
        """See `Purse.settle`."""
        with self._lock:
            self._reserved_usd.remove(reserved_usd)
            self.spent_usd += spent_usd
            self.lost_usd += lost_usd
            self.beyond_usd = max(self.beyond_usd, beyond_usd)
            self.n_calls += answered

    def _fits(self, reserved_usd: list[float]) -> bool:
        gone_usd = self.spent_usd + self.lost_usd
        return self.limit_usd is None or gone_usd + math.fsum(reserved_usd) <= self.limit_usd
