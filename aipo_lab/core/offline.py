"""Looking for what is on this machine without asking the model hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def without_hub() -> Iterator[None]:
    """Hugging Face's libraries look into their caches alone, also if they were imported before.

    They read the environment at import and these constants at every request.
    """
    holders: list[Any] = []
    with suppress(ImportError):
        from huggingface_hub import constants

        holders.append(constants)
    with suppress(ImportError):
        from datasets import config

        holders.append(config)
    before = [holder.HF_HUB_OFFLINE for holder in holders]
    for holder in holders:
        holder.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.HF_HUB_OFFLINE = value
