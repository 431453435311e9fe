"""Which stages of a graph have their artifact: one listing per stage instead of a look-up per node."""

from __future__ import annotations

import os
from collections.abc import Iterable

from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode, find_made


def find_stored(nodes: Iterable[StageNode], store: Store) -> set[str]:
    """The references of those `nodes` whose artifact is in the store.

    Only what a listing of the stage's folder names is looked up, so an empty store costs nothing however large the
    graph is.
    """
    listed: dict[str, set[str]] = {}
    stored = set()
    for node in nodes:
        stage, key = node.request.stage, node.request.key
        if stage not in listed:
            listed[stage] = _names(store, stage)
        if key in listed[stage] and find_made(store, node) is not None:
            stored.add(node.reference)
    return stored


def _names(store: Store, stage: str) -> set[str]:
    try:
        with os.scandir(store.root / stage) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()
