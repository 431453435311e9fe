"""Checks every stored reply of judges: its form, its hash, and that it says what its name says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aipo_lab.judging.call_file import DamagedCall, StoredCall, read_call, request_hash
from aipo_lab.judging.calls import JudgeRequest, Message
from aipo_lab.judging.claims import claims_on
from aipo_lab.judging.store import CLAIMS, rename_aside

_NAME = re.compile(r"(?P<call>[0-9a-f]{64})(\.discarded-[0-9]+)?\.json")


@dataclass(frozen=True)
class CallFile:
    """A file of the call store, with the hash of the call that it is about."""

    path: Path
    call: str
    size_bytes: int


def stored_calls(folder: Path) -> list[CallFile]:
    """All replies below `folder`, discarded ones included; not what was set aside."""
    found = ((path, _NAME.fullmatch(path.name)) for path in sorted(folder.glob("[0-9a-f][0-9a-f]/*.json")))
    return [CallFile(path, match["call"], path.lstat().st_size) for path, match in found if match]


def verify_calls(files: Sequence[CallFile]) -> Iterator[tuple[CallFile, str | None]]:
    """Each file with what is wrong with it, None if nothing is; every byte is read.

    Raises `UserError` where reading is not permitted.
    """
    for one in files:
        yield one, _problem(one)


def set_aside_call(file: CallFile) -> Path | None:
    """Rename a damaged file, so that its call is asked again by whoever needs it; returns where it is now.

    None if somebody is making the call, or stored a whole reply, in the meantime. No reply is ever deleted.
    """
    with claims_on(file.path.parent.parent / CLAIMS).claim(file.call) as mine:
        return rename_aside(str(file.path)) if mine and _problem(file) else None


def _problem(file: CallFile) -> str | None:
    try:
        stored = read_call(str(file.path), file.call)
    except DamagedCall as error:
        return str(error)
    if stored is None:  # discarded, or set aside, since it was listed
        return None
    if file.path.parent.name != file.call[:2]:
        return f"it lies where no call looks for it; move it to {file.call[:2]}/"
    request = _judge_request(stored)
    known = None if request is None else request_hash(stored.identity, request)
    return None if known in (None, file.call) else f"it says what has the hash {known}"


def _judge_request(stored: StoredCall) -> JudgeRequest | None:
    """The request that the file is about; None for one of another kind, whose hash cannot be told."""
    content = stored.request
    try:
        messages = tuple(Message(role, text) for role, text in content["messages"])
        request = JudgeRequest(messages, content["max_tokens"], content["temperature"], content["top_logprobs"])
        return request if request.content() == content else None
    except (KeyError, TypeError, ValueError):
        return None
