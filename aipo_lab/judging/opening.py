"""The one way to get a judge: from its settings and the folder where replies are kept."""

from __future__ import annotations

from pathlib import Path

from aipo_lab.core.store import make_writable_folder
from aipo_lab.judging.calls import Judge
from aipo_lab.judging.client import ApiJudge
from aipo_lab.judging.local import LocalJudge
from aipo_lab.judging.money import Budget, Purse
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.judging.store import CallStore


def open_judge(
    settings: JudgeSettings, store_folder: Path, *, budget: Purse | None = None, device: str = "cpu"
) -> Judge:
    """The judge that `settings` describe, with its replies kept in `store_folder` (which all judges may share).

    `budget`: what several judges of one command may spend together; by default this judge alone may spend
    `settings.max_cost_usd`. `device`: where a local judge computes. Raises one `UserError` for a missing key, address
    or model folder, an unwritable `store_folder`, and a cost limit without a known price.
    """
    make_writable_folder(store_folder, "store of judge calls", "--store")
    purse = budget or Budget(settings.max_cost_usd)
    store = CallStore(store_folder, settings.identity(), purse.started_s)
    if settings.engine == "local":
        return LocalJudge(settings, store, device)
    return ApiJudge(settings, store, purse)
