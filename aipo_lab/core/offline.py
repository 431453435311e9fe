"""Looking for what is on this machine without asking the model hub."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DATASETS = "datasets.config"
_VARIABLE = "HF_DATASETS_OFFLINE"


@contextmanager
def without_hub() -> Iterator[None]:
    """Hugging Face's libraries look into their caches alone, whether they are imported already or in the block.

    They read the environment at import and constants at every request. `datasets` takes a second to import, which a
    plan that needs none does not spend.
    """
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    holders: list[Any] = [constants, *filter(None, [sys.modules.get(_DATASETS)])]
    before = [holder.HF_HUB_OFFLINE for holder in holders]
    given = os.environ.get(_VARIABLE)
    for holder in holders:
        holder.HF_HUB_OFFLINE = True
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        if given is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = given
        for holder, value in zip(holders, before, strict=True):
            holder.HF_HUB_OFFLINE = value
        imported: Any = sys.modules.get(_DATASETS)
        if imported is not None and imported not in holders:  # in the block, hence with the block's setting
            imported.HF_HUB_OFFLINE = offline if given is None else given.upper() in imported.ENV_VARS_TRUE_VALUES
