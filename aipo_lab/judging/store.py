"""The call store: one JSON file per answered call, so that nobody pays for it again.

Layout: `<first two digits>/<hash>.json` holds the reply; `<hash>.discarded-<n>.json` an unusable one with the reason;
`<hash>.damaged-<n>.json` one that was damaged and set aside; `claims.lock` says who is making which call (claims.py).
The hash is over what determines the reply. A reply is flushed to the disk, and so is its name, before it counts as
answered: it was paid for, and no file is ever deleted. What is damaged all the same is reported, counts as absent and
is asked again.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aipo_lab.core.durability import flush, make_folders, rename_into_place
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_bytes_atomically
from aipo_lab.judging.call_file import DamagedCall, StoredCall, read_call, reply_hash, request_hash
from aipo_lab.judging.calls import JudgeReply, ServerRequest, would_repeat
from aipo_lab.judging.claims import claims_on

logger = logging.getLogger(__name__)

CLAIMS = "claims.lock"
"""The file of a call store that says who is making which call."""


class CallStore:
    """The replies of one judge under a folder that judges and processes share.

    `run_started_s`: unusable replies since then are this run's own, and not asked for again.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], run_started_s: float = math.inf) -> None:
        self.folder = folder
        self.run_started_s = run_started_s
        self.identity = dict(identity)
        self._claims = claims_on(folder / CLAIMS)
        self._reported: set[str] = set()

    def hash(self, request: ServerRequest) -> str:
        """The name of the request's file."""
        return request_hash(self.identity, request)

    def find(self, call: str) -> JudgeReply | None:
        """The stored reply, or the unusable one that this run got; None if it is still to be asked for.

        A damaged file is reported and counts as absent. Raises `UserError` for one that may not be read.
        """
        stored = self._read(self._path(call), call)
        if stored is None and self.run_started_s < math.inf:
            newest = self._newest_discarded(call)
            stored = newest if newest and newest.answered_at.timestamp() >= self.run_started_s else None
        return None if stored is None else stored.reply

    def put(self, call: str, request: ServerRequest, reply: JudgeReply, cost_usd: float | None) -> None:
        """Store a reply under its hash at once; raises `UserError` if the folder cannot be written to.

        One with a problem is stored as discarded, unless a new one would only repeat it.
        """
        attempt = self.attempt(call)
        aside = bool(reply.problem) and not self._would_repeat(call, request.temperature, reply)
        path = self._path(call, f".discarded-{attempt}.json") if aside else self._path(call)
        value: dict[str, Any] = {
            "hash": call,
            "identity": self.identity,
            "request": request.content(),
            "reply": vars(reply),
            "reply_sha256": reply_hash(vars(reply)),
            "cost_usd": cost_usd,
            "attempt": attempt,
            "answered_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        }
        value |= {"discarded": reply.problem} if aside else {}
        try:
            if not aside and os.path.lexists(path) and self._read(path, call) is None:
                rename_aside(path)  # it was paid for too
            _write(path, value)
        except OSError as error:
            raise UserError(
                f"cannot store a server's reply in {self.folder}: {error.strerror}; make room or permit writing, then "
                "run again: what is stored already is not asked again"
            ) from None

    def attempt(self, call: str) -> int:
        """The number of the attempt under way: 1 + how many replies were discarded."""
        number = 1
        while os.path.exists(self._path(call, f".discarded-{number}.json")):  # noqa: PTH110 - twice as fast
            number += 1
        return number

    def discard(self, call: str, reason: str) -> None:
        """Keep the stored reply aside with the reason, unless a new one would only repeat it.

        Nothing happens if there is none (another process was first).
        """
        stored = self._read(self._path(call), call)
        if stored is not None and not self._would_repeat(call, stored.request["temperature"], stored.reply):
            value = stored.model_dump(mode="json") | {"discarded": reason}
            value["reply_sha256"] = reply_hash(value["reply"])
            _write(self._path(call, f".discarded-{self.attempt(call)}.json"), value)
            Path(self._path(call)).unlink(missing_ok=True)
            flush(Path(self._path(call)).parent)

    def claim(self, call: str) -> AbstractContextManager[bool]:
        """Whether this caller, of all threads and processes, may make the call until the block ends; never waits."""
        return self._claims.claim(call)

    def _would_repeat(self, call: str, temperature: float, reply: JudgeReply) -> bool:
        before = self._newest_discarded(call)
        return would_repeat(temperature, reply, before.reply if before else None)

    def _newest_discarded(self, call: str) -> StoredCall | None:
        n_discarded = self.attempt(call) - 1
        return self._read(self._path(call, f".discarded-{n_discarded}.json"), call) if n_discarded else None

    def _path(self, call: str, suffix: str = ".json") -> str:
        return f"{self.folder}/{call[:2]}/{call}{suffix}"

    def _read(self, path: str, call: str) -> StoredCall | None:
        try:
            return read_call(path, call)
        except DamagedCall as error:
            self._report_damage(path, str(error))
            return None

    def _report_damage(self, path: str, reason: str) -> None:
        if path not in self._reported:
            self._reported.add(path)
            logger.warning("%s is damaged (%s): the call is made again", path, reason)


def rename_aside(path: str) -> Path:
    """Rename a damaged file beside where it lies; returns where it is now. The caller claims the call."""
    number = 1
    while os.path.lexists(aside := f"{path.removesuffix('.json')}.damaged-{number}.json"):
        number += 1
    rename_into_place(path, aside)
    return Path(aside)


def _write(path: str, value: Mapping[str, Any]) -> None:
    """Write, flush and rename into place; unlike `write_json` without indentation."""
    content = json.dumps(value, allow_nan=False).encode()
    try:
        write_bytes_atomically(path, content)
    except FileNotFoundError:
        make_folders(Path(path).parent)
        write_bytes_atomically(path, content)
