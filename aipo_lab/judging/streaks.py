"""When a judge is given up: too many calls in a row that failed, were refused, or were paid for and of no use."""

from __future__ import annotations

FEWEST_IN_A_ROW = 16
"""A judge that gave nothing usable this many times in a row (or twice the concurrency, if more) is given up."""


class Streaks:
    """Counts the calls without a usable reply since the last usable one.

    Failures are counted apart: a server that refuses or answers badly is not down.
    """

    def __init__(self, concurrency: int) -> None:
        self._limit = max(FEWEST_IN_A_ROW, 2 * concurrency)
        self._n_failed = 0
        self._n_useless = 0

    def usable(self) -> None:
        """A call got a usable reply."""
        self._n_failed = self._n_useless = 0

    def failed(self, reason: str) -> str | None:
        """A call failed though it was tried again; why to give up, if it is time to."""
        self._n_failed += 1
        return self._give_up(self._n_failed, "failed", reason)

    def useless(self, reason: str) -> str | None:
        """A call was refused, or its reply is unusable; why to give up, if it is time to."""
        self._n_failed = 0
        self._n_useless += 1
        return self._give_up(self._n_useless, "gave no usable reply", reason)

    def _give_up(self, n: int, what: str, reason: str) -> str | None:
        return f"{n} calls in a row {what}, the last with: {reason}" if n >= self._limit else None
