"""Whether an engine's server is there, knows the model, and has loaded the policy's weights and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.judging.calling import Caller
from aipo_lab.judging.client import run_async
from aipo_lab.judging.replies import Fault, error_of, failure
from aipo_lab.models.fingerprint import fingerprint_folder

NO_LIST = frozenset({404, 405, 501})
"""Statuses of servers that list no models."""


def check_server(caller: Caller, folder: Path, serves: str | None) -> None:
    """Raise `UserError` for a wrong key, model or set of weights, `StageFailed` if the server cannot be reached.

    `folder`: the policy; `serves`: the folder that the user says the server loaded.
    """
    entry = run_async(_served_entry(caller))
    root = entry.get("root")
    loaded = serves or (root if isinstance(root, str) and Path(root).is_dir() else None)
    model = caller.settings.model
    if loaded is None:
        raise UserError(
            f"the engine's server does not say from which folder it loaded {model}, so it may serve other weights than "
            f"the policy's: say it with engine.serves=FOLDER (its content is compared with {folder})"
        )
    if not Path(loaded).is_dir():
        raise UserError(f"engine.serves: {loaded!r} is not a folder here; give the model folder that the server loaded")
    if fingerprint_folder(Path(loaded)) != fingerprint_folder(folder):
        raise UserError(
            f"the engine's server serves {model} from {loaded}, which is not the policy in {folder}: samples of other "
            "weights are not the policy's. A server has one set of weights, so it serves `aipo-lab evaluate` of that "
            "model; policies that training makes are sampled by the engines transformers and vllm"
        )


async def _served_entry(caller: Caller) -> dict[str, Any]:
    """What the server's list of models says of the model; nothing if it has no list. Raises as `check_server`."""
    url = f"{caller.endpoint.url.removesuffix('/completions')}/models"
    async with caller.session() as session:
        try:
            status, headers, body = await caller.look(session, url)
        except Fault as fault:
            raise StageFailed(f"the engine's server cannot be reached at {url}: {fault}") from None
    if status in NO_LIST:
        return {}
    if status != 200:
        raise _as_error(failure(status, headers, error_of(body), caller.endpoint.key_variable, "engine"))
    entries = _entries(body)
    if entries is None:
        raise StageFailed(f"{url} answers with something else than a list of models; check engine.base_url")
    named = {str(entry.get("id")): entry for entry in entries}
    if caller.settings.model not in named:
        raise UserError(
            f"the engine's server has no model {caller.settings.model!r}; set engine.model to one of: "
            f"{', '.join(named) or 'none'}"
        )
    return named[caller.settings.model]


def _entries(body: bytes) -> list[dict[str, Any]] | None:
    try:
        listed = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else None


def _as_error(error: Exception) -> Exception:
    return error if isinstance(error, UserError) else StageFailed(f"the engine's server does not answer: {error}")
