"""The call store: one JSON file per answered call, so that nobody pays for it again.

Layout: `<first two digits>/<hash>.json` holds the reply; `<hash>.discarded-<n>.json` an unusable one with the reason;
`claims.lock` says who is making which call (claims.py). The hash is over what determines the reply. A reply is flushed
to the disk, and so is its name, before it counts as answered: it was paid for. What is damaged all the same is
reported, counts as absent and is asked again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.durability import flush, make_folders
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_bytes_atomically
from aipo_lab.judging.calls import JudgeReply, ServerRequest, would_repeat
from aipo_lab.judging.claims import claims_on

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2


class StoredCall(StrictModel):
    """One file of the store; the request is kept too, since a hash alone could never be explained or re-keyed."""

    hash: str = Field(description="hash of identity and request")
    identity: dict[str, Any] = Field(description="the judge, as far as it determines replies")
    request: dict[str, Any] = Field(description="the content of the call")
    reply: JudgeReply = Field(description="the reply")
    cost_usd: float | None = Field(description="what it cost, if the price is known")
    attempt: int = Field(ge=1, description="1 + number of replies to this request that were discarded before")
    answered_at: datetime = Field(description="when the reply arrived")
    discarded: str | None = Field(None, description="why the reply is unusable")


def request_hash(identity: Mapping[str, Any], request: ServerRequest) -> str:
    """SHA-256 over the judge's identity and the request's content, in hexadecimal.

    The texts enter as they are, announced with their lengths: to write them as JSON first would take several times as
    long, before the first call is made.
    """
    content, texts = request.digest_parts()
    content |= {"version": FORMAT_VERSION, "identity": identity}
    head = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(b"\n".join([head.encode(), *texts])).hexdigest()


class CallStore:
    """The replies of one judge under a folder that judges and processes share.

    `run_started_s`: unusable replies since then are this run's own, and not asked for again.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], run_started_s: float = math.inf) -> None:
        self.folder = folder
        self.run_started_s = run_started_s
        self.identity = dict(identity)
        self._claims = claims_on(folder / "claims.lock")
        self._reported: set[str] = set()

    def hash(self, request: ServerRequest) -> str:
        """The name of the request's file."""
        return request_hash(self.identity, request)

    def find(self, call: str) -> JudgeReply | None:
        """The stored reply, or the unusable one that this run got; None if it is still to be asked for.

        A damaged file is reported and counts as absent.
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
            "cost_usd": cost_usd,
            "attempt": attempt,
            "answered_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        }
        value |= {"discarded": reply.problem} if aside else {}
        try:
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
            with open(path, "rb") as stream:  # noqa: PTH123 - as above
                stored = StoredCall.model_validate(json.loads(stream.read()))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or not of this form
            self._report_damage(path, str(error).splitlines()[0])
            return None
        if stored.hash != call:
            self._report_damage(path, "it is another call's file")
            return None
        return stored

    def _report_damage(self, path: str, reason: str) -> None:
        if path not in self._reported:
            self._reported.add(path)
            logger.warning("%s is damaged (%s): the call is made again", path, reason)


def _write(path: str, value: Mapping[str, Any]) -> None:
    """Write, flush and rename into place; unlike `write_json` without indentation."""
    content = json.dumps(value, allow_nan=False).encode()
    try:
        write_bytes_atomically(path, content)
    except FileNotFoundError:
        make_folders(Path(path).parent)
        write_bytes_atomically(path, content)
