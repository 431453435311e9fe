"""Keeping to rates per minute, and how long to wait before trying again."""

from __future__ import annotations

import random
import threading
import time

LONGEST_BACKOFF_S = 60.0


class Pace:
    """Spreads starts evenly over time, so that no window holds more than the limit plus one start.

    A bucket that fills while idle (as common limiters are) lets twice the limit through in its first minute.
    Starts are handed out by the clock, so threads and event loops may share one pace; `limit` None never waits.
    """

    def __init__(self, limit: float | None, period_s: float = 60.0) -> None:
        self._seconds_per_unit = period_s / limit if limit else 0.0
        self._next_s = 0.0
        self._lock = threading.Lock()

    def wait_s(self, amount: float = 1.0) -> float:
        """Seconds until something of `amount` units may start; its share of the rate is taken."""
        now_s = time.monotonic()
        with self._lock:
            start_s = max(now_s, self._next_s)
            self._next_s = start_s + amount * self._seconds_per_unit
        return start_s - now_s


def backoff_wait_s(attempt: int, first_s: float) -> float:
    """A random wait after failed try number `attempt` (1, 2, …): exponential back-off with full jitter.

    Uniform between 0 and `first_s` doubled with each try (M. Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    return random.uniform(0, min(LONGEST_BACKOFF_S, first_s * 2.0 ** min(attempt - 1, 30)))
