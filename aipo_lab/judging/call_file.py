"""One file of the call store: its form, the hash that names it, and whether what it holds is what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field, ValidationError

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeReply, ServerRequest

FORMAT_VERSION = 2


class DamagedCall(ValueError):
    """The file is there but cannot be trusted; the message says why."""


class StoredCall(StrictModel):
    """What a file holds; the request is kept too, since a hash alone could never be explained or re-keyed."""

    hash: str = Field(description="hash of identity and request")
    identity: dict[str, Any] = Field(description="the judge, as far as it determines replies")
    request: dict[str, Any] = Field(description="the content of the call")
    reply: JudgeReply = Field(description="the reply")
    reply_sha256: str | None = Field(None, description="hash of the reply; none in files of older versions")
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


def reply_hash(reply: Mapping[str, Any]) -> str:
    """SHA-256 over a reply's fields, in hexadecimal; the same before and after they went through JSON."""
    text = json.dumps(reply, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_call(path: str, call: str) -> StoredCall | None:
    """The checked content of the file of `call`, None without one.

    Raises `DamagedCall`, and `UserError` where reading is not permitted: what may be read tomorrow is not asked for,
    and paid for, again.
    """
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - twice as fast, for thousands of calls
            value = json.loads(stream.read())
        stored = StoredCall.model_validate(value)
    except FileNotFoundError:
        return None
    except (PermissionError, NotADirectoryError) as error:
        raise UserError(
            f"cannot read the stored reply {path}: {error.strerror}; make it readable, then run again: it was paid "
            "for, and is not asked for again meanwhile"
        ) from None
    except OSError as error:
        raise DamagedCall(f"it cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedCall(f"{'.'.join(map(str, first['loc'])) or 'its content'}: {first['msg']}") from None
    except UnicodeDecodeError:
        raise DamagedCall("it is not UTF-8") from None
    except (ValueError, RecursionError):
        raise DamagedCall("it is not JSON (torn or overwritten)") from None
    if stored.hash != call:
        raise DamagedCall("it is another call's file")
    if stored.reply_sha256 not in (None, reply_hash(value["reply"])):
        raise DamagedCall("its reply is not what was written")
    return stored
