"""What `aipo-lab store` shows: the check of every artifact, with progress, and what is damaged."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.core.verification import Verified, set_aside, stored_folders, verify


def verify_store(root: Path, aside: bool) -> bool:
    """Check all artifacts and print what is damaged, file by file; whether anything is. `aside` moves it away.

    Raises `UserError` if there is no store at `root`, or it may not be read or changed.
    """
    if not root.is_dir():
        raise UserError(f"there is no store at {root}; give the folder of one with --store")
    console, store = Console(), Store(root)
    with store.errors():
        folders = stored_folders(store)
        damaged = []
        columns = (TextColumn("checking"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        errors = Console(stderr=True)
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
            task = bars.add_task("checking", total=sum(one.size_bytes for one in folders))
            for found in verify(folders):
                bars.advance(task, found.size_bytes)
                if found.problems:
                    damaged.append(found)
                    _show(console, store, found)
        for one in damaged if aside else ():
            console.print(f"set aside: {escape(str(set_aside(store, one.reference)))}", highlight=False, soft_wrap=True)
    gib = sum(one.size_bytes for one in folders) / (1 << 30)
    console.print(f"{len(folders)} artifacts, {gib:.2f} GiB: {_verdict(len(damaged), aside)}", highlight=False)
    return bool(damaged)


def _show(console: Console, store: Store, found: Verified) -> None:
    console.print(f"[red]damaged[/red] {escape(found.reference)}", highlight=False, soft_wrap=True)
    for name, problem in found.problems.items():
        path = store.root / found.reference / name
        console.print(f"  {escape(f'{path} {problem}')}", highlight=False, soft_wrap=True)


def _verdict(n_damaged: int, aside: bool) -> str:
    if n_damaged == 0:
        return "all intact"
    next_step = (
        "the next run that needs them makes them again"
        if aside
        else "with --set-aside they are moved away, and the next run that needs them makes them again"
    )
    return f"{n_damaged} damaged; {next_step}"
