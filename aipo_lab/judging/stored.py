"""What all judges do alike: look replies up, ask for each missing one once, and remember what was discarded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from aipo_lab.core.progress import Progress
from aipo_lab.judging.calls import JudgeReply, Outcome, ServerRequest, outcome_of
from aipo_lab.judging.store import CallStore

R = TypeVar("R", bound=ServerRequest)

Settle = Callable[[str, Outcome], None]
"""Called with the hash of a call and its outcome, as soon as there is one."""


class StoredJudge(ABC, Generic[R]):
    """A judge in front of a call store; see `Judge`."""

    def __init__(self, name: str, store: CallStore) -> None:
        self._name = name
        self._store = store
        self._discarded: dict[str, JudgeReply] = {}

    @property
    def name(self) -> str:
        """See `Judge.name`."""
        return self._name

    def ask(self, requests: Sequence[R], progress: Progress) -> list[Outcome]:
        """See `Judge.ask`; progress counts different calls, stored ones included."""
        hashes = [self._store.hash(request) for request in requests]
        calls = dict(zip(hashes, requests, strict=True))
        outcomes: dict[str, Outcome] = {}
        for call, request in calls.items():
            if (reply := self._discarded.get(call) or self._store.find(call)) is not None:
                outcomes[call] = outcome_of(request, reply)

        def settle(call: str, outcome: Outcome) -> None:
            outcomes[call] = outcome
            progress(len(outcomes), len(calls), self._unit())

        progress(len(outcomes), len(calls), self._unit())
        missing = {call: request for call, request in calls.items() if call not in outcomes}
        if missing:
            self._answer(missing, settle)
        return [outcomes[call] for call in hashes]

    def discard(self, request: R, reason: str) -> None:
        """See `Judge.discard`."""
        call = self._store.hash(request)
        reply = self._store.find(call)
        if reply is not None and call not in self._discarded:
            self._discarded[call] = reply
            self._store.discard(call, reason)

    def _unit(self) -> str:
        """What progress counts."""
        return "calls"

    @abstractmethod
    def _answer(self, calls: Mapping[str, R], settle: Settle) -> None:
        """Settle every call, storing replies at once; or raise, with what was answered stored."""
