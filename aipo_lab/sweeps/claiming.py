"""Which output folder a sweep gets: its own, never one that holds other results, also when several start at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aipo_lab.core.errors import UserError
from aipo_lab.core.locks import lock_within
from aipo_lab.core.storage_errors import storage_errors
from aipo_lab.judging.ledger import NAME_START
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.plan import SweepGraph
from aipo_lab.sweeps.saved import read_summary, read_sweep

ID_HEX_DIGITS = 16
SHOWN_ENTRIES = 3
CLAIM_TIMEOUT_S = 60.0


def sweep_id(name: str, graph: SweepGraph) -> str:
    """A digest of what a sweep's results follow from: its name, its trials' names and the keys of their stages.

    So it does not depend on how fast or where anything is computed, on prices, or on where models lie.
    """
    trials = {trial: sorted(one.nodes()) for trial, one in graph.trials.items()}
    return hashlib.sha256(json.dumps([name, trials], sort_keys=True).encode()).hexdigest()[:ID_HEX_DIGITS]


def claim_folder(
    name: str,
    identity: str,
    out: Path | None,
    runs: Path,
    store_root: Path,
    enter: Callable[[SweepFolder], None],
    say: Callable[[str], None] = lambda _: None,
) -> SweepFolder:
    """The sweep's output folder: `out`, else `<runs>/<name>`, with its id where that holds something else.

    `enter` writes the sweep's identity into the folder; it is called while no other process can do the same. `say`
    hears why a sweep does not get the folder of its name. The store may lie in the folder. Raises `UserError` if `out`
    (or the second choice) holds something else, or files that cannot be read.
    """
    choices = [out] if out is not None else [runs / name, runs / f"{name}-{identity[:8]}"]
    for choice in choices:
        folder = SweepFolder(choice)
        reason = _occupied(folder, identity, store_root)
        if reason is None:
            folder.prepare()
            with _claimed(folder):
                reason = _occupied(folder, identity, store_root)  # again: another process may have been faster
                if reason is None:
                    enter(folder)
                    return folder
        if choice == choices[-1]:
            raise UserError(
                f"the output folder {choice} {reason}; choose another with --out, or delete it "
                "(what it computed stays in the store)"
            )
        say(f"{choice} {reason}; this sweep goes to {choices[-1]}")
    raise AssertionError("there is a last choice")


@contextmanager
def _claimed(folder: SweepFolder) -> Iterator[None]:
    """Nobody else enters the folder meanwhile; raises `UserError` if another process keeps it for a minute."""
    with ExitStack() as stack:
        with storage_errors(folder.path.absolute(), "output folder", "--out"):
            held = stack.enter_context(lock_within(folder.claim_lock, CLAIM_TIMEOUT_S))
        if not held:
            raise UserError(
                f"another process has held {folder.claim_lock} for {CLAIM_TIMEOUT_S:g} s; try again, and if no "
                f"aipo-lab is starting in that folder, delete {folder.claim_lock.name}* there"
            )
        yield


def _occupied(folder: SweepFolder, identity: str, store_root: Path) -> str | None:
    """Why the folder is not free for the sweep of this identity; None if it is, or is already its own.

    Raises `UserError` for a `sweep.yaml` or `summary.json` that cannot be read: nothing is written over it.
    """
    if folder.configuration.exists():
        saved = read_sweep(folder.configuration)
        if saved.id == identity:
            folder.load_summary()
            return None
        if not saved.id:
            return "was written by an earlier version of aipo-lab, whose results cannot be told from these"
        return f"holds the results of other settings or of another version of aipo-lab (see {folder.configuration})"
    if folder.summary.exists():
        if read_summary(folder.summary).sweep_id == identity:
            return None
        return f"holds the results of other settings or of another version of aipo-lab (see {folder.summary})"
    entries = list(folder.path.iterdir()) if folder.path.is_dir() else []
    store = store_root.resolve()
    foreign = sorted(
        path.name for path in entries if not _is_starting(path) and not store.is_relative_to(path.resolve())
    )
    if not foreign:
        return None
    more = ", …" if len(foreign) > SHOWN_ENTRIES else ""
    return f"is not empty and holds no sweep ({', '.join(foreign[:SHOWN_ENTRIES])}{more})"


def _is_starting(path: Path) -> bool:
    """What a process that is just starting, or was killed while it did, leaves in an otherwise empty folder."""
    own = (".claim", "..claim", ".lock", "..lock", ".probe-", ".sweep.yaml.", ".summary.json.", NAME_START)
    return path.name.startswith(own)
