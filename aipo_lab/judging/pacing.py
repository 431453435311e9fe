"""Keeping to rates per minute and to a number of calls at once, for all processes that share a call store.

Both are kept in files beside the replies, one pair for each server and model: the limits are the server's, whoever
asks. A killed process holds nothing: its slots are locks that end with it, and of the rate it can have taken one start.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.locks import momentary_lock
from aipo_lab.judging.claims import claims_on

LONGEST_BACKOFF_S = 60.0
CLOCK_STEP_S = 60.0
"""The clocks of machines that share a file differ by less; a file from later than that is from before a reset."""
_STATE_BYTES = 128
"""Of the file of a pace: padded, so that a shorter state leaves nothing of a longer one."""


def limits_path(folder: Path, url: str, model: str, suffix: str) -> Path:
    """A file in `folder` for the limits of one server and model."""
    return folder / f"limits-{hashlib.sha256(f'{url} {model}'.encode()).hexdigest()[:16]}.{suffix}"


class Pace:
    """Spreads starts evenly over time, so that no window holds more than the limit plus one start.

    A bucket that fills while idle (as common limiters are) lets twice the limit through in its first minute. A start
    is taken only when it is due, so who dies while waiting has taken none. Limits are per `period_s`; None never waits.
    """

    def __init__(self, path: Path, requests: float | None, tokens: float | None, period_s: float = 60.0) -> None:
        self._path = path
        self._gaps_s = {"requests": period_s / requests if requests else 0.0}
        self._gaps_s["tokens"] = period_s / tokens if tokens else 0.0

    def wait_s(self, tokens: float = 0.0) -> float:
        """0 if a call of that many tokens may start now, which it then does; else the seconds until it is worth asking.

        Raises `UserError` if the file cannot be used.
        """
        if not any(self._gaps_s.values()):
            return 0.0
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            with momentary_lock(descriptor, self._path):
                return self._take(descriptor, time.time(), {"requests": 1.0, "tokens": tokens})
        except OSError as error:
            raise self._unusable(error) from None
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, now_s: float, amounts: dict[str, float]) -> float:
        due_s = _due(os.pread(descriptor, _STATE_BYTES, 0), now_s)
        limited = {name: gap_s for name, gap_s in self._gaps_s.items() if gap_s}
        wait_s = max(due_s[name] for name in limited) - now_s
        if wait_s > 0:
            return wait_s
        taken = {name: max(now_s, due_s[name]) + amounts[name] * gap_s for name, gap_s in self._gaps_s.items()}
        os.pwrite(descriptor, json.dumps({"at": now_s, **taken}).encode().ljust(_STATE_BYTES), 0)
        return 0.0

    def _unusable(self, error: OSError) -> UserError:
        return UserError(
            f"the file that keeps calls to the judge's limits per minute, {self._path}, cannot be used: "
            f"{error.strerror}; permit reading and writing it, or leave the limits out"
        )


def _due(content: bytes, now_s: float) -> dict[str, float]:
    """When the next start is due by each limit; now, if the file is new, damaged or from long after now."""
    try:
        state: Any = json.loads(content)
        known = {name: float(state[name]) for name in ("at", "requests", "tokens")}
    except (ValueError, KeyError, TypeError):
        known = {}
    if not known or known["at"] > now_s + CLOCK_STEP_S:
        return {"requests": now_s, "tokens": now_s}
    return known


class Slots:
    """At most `n` calls at once, of all threads and processes that name the same file."""

    def __init__(self, path: Path, n: int) -> None:
        self._claims = claims_on(path)
        self._n = n

    def take(self) -> int | None:
        """A free slot, to be given back; None if there is none now."""
        return next((slot for slot in range(self._n) if self._claims.take(slot)), None)

    def give_back(self, slot: int) -> None:
        """End a call."""
        self._claims.give_back(slot)


def backoff_wait_s(attempt: int, first_s: float) -> float:
    """A random wait after failed try number `attempt` (1, 2, …): exponential back-off with full jitter.

    Uniform between 0 and `first_s` doubled with each try (M. Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    return random.uniform(0, min(LONGEST_BACKOFF_S, first_s * 2.0 ** min(attempt - 1, 30)))
