"""Taking turns: a side does one piece of its work when told to, says what it took, and waits.

The sides alternate piece by piece, so that a machine that is slow for a while is slow for all of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping

from memory import peak_gib, synchronise


class Turns:
    """This process's turns; time between them does not count."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._wait()

    def done(self, piece: str, tokens: int = 0) -> None:
        """Report the piece since the turn began, with the tokens it trained on, and wait for the next turn."""
        synchronise(self.device)
        self._say(
            {
                "piece": piece,
                "seconds": time.perf_counter() - self._started_s,
                "cpu_s": time.process_time() - self._started_cpu_s,
                "tokens": tokens,
            }
        )
        self._wait()

    def finish(self, facts: Mapping[str, object]) -> None:
        """Say what is known in the end besides the times."""
        self._say({"peak_gib": peak_gib(self.device), **facts})

    def _say(self, row: Mapping[str, object]) -> None:
        print("@" + json.dumps(row), flush=True)

    def _wait(self) -> None:
        if not sys.stdin.readline():
            sys.exit("the benchmark ended before this side did")
        self._started_s = time.perf_counter()
        self._started_cpu_s = time.process_time()
