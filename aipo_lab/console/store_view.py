"""What `aipo-lab store` shows: the check of all artifacts and judge replies, with progress, and what is damaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.core.verification import StoredFolder, Verified, set_aside, stored_folders, verify
from aipo_lab.judging.verification import CallFile, set_aside_call, stored_calls, verify_calls


@dataclass
class _Damaged:
    """What was found damaged."""

    artifacts: list[Verified] = field(default_factory=list)
    replies: list[CallFile] = field(default_factory=list)


def verify_store(root: Path, aside: bool) -> bool:
    """Check all artifacts and all stored judge replies and print what is damaged; whether anything is.

    `aside` moves it away; nothing is deleted. Raises `UserError` if there is no store at `root`, or it may not be read
    or changed.
    """
    if not root.is_dir():
        raise UserError(f"there is no store at {root}; give the folder of one with --store")
    console, store = Console(), Store(root)
    with store.errors():
        folders, replies = stored_folders(store), stored_calls(store.judge_calls)
        n_bytes = sum(one.size_bytes for one in folders) + sum(one.size_bytes for one in replies)
        damaged = _check(console, store, folders, replies, n_bytes)
        moved = [set_aside(store, one.reference) for one in damaged.artifacts if aside]
        moved += [set_aside_call(one) for one in damaged.replies if aside]
    for path in moved:
        if path is not None:
            console.print(f"set aside: {escape(str(path))}", highlight=False, soft_wrap=True)
    what = f"{len(folders)} artifacts" + (f" and {len(replies)} judge replies" if replies else "")
    console.print(f"{what}, {n_bytes / (1 << 30):.2f} GiB: {_verdict(damaged, aside)}", highlight=False, soft_wrap=True)
    return bool(damaged.artifacts or damaged.replies)


def _check(
    console: Console, store: Store, folders: list[StoredFolder], replies: list[CallFile], n_bytes: int
) -> _Damaged:
    """Read everything, printing what is damaged as it is found."""
    damaged = _Damaged()
    columns = (TextColumn("checking"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    errors = Console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        task = bars.add_task("checking", total=n_bytes)
        for found in verify(folders):
            bars.advance(task, found.size_bytes)
            if found.problems:
                damaged.artifacts.append(found)
                _show(console, store, found)
        for reply, problem in verify_calls(replies):
            bars.advance(task, reply.size_bytes)
            if problem:
                damaged.replies.append(reply)
                console.print("[red]damaged[/red] judge reply", highlight=False)
                console.print(f"  {escape(f'{reply.path} {problem}')}", highlight=False, soft_wrap=True)
    return damaged


def _show(console: Console, store: Store, found: Verified) -> None:
    console.print(f"[red]damaged[/red] {escape(found.reference)}", highlight=False, soft_wrap=True)
    for name, problem in found.problems.items():
        path = store.root / found.reference / name
        console.print(f"  {escape(f'{path} {problem}')}", highlight=False, soft_wrap=True)


def _verdict(damaged: _Damaged, aside: bool) -> str:
    n_artifacts, n_replies = len(damaged.artifacts), len(damaged.replies)
    if not n_artifacts and not n_replies:
        return "all intact"
    again = ["the next run that needs them makes them again"] if n_artifacts else []
    again += ["judges are asked again, and paid, for replies that are needed"] if n_replies else []
    moving = "nothing is deleted" if aside else "with --set-aside they are moved away, nothing is deleted"
    return f"{n_artifacts + n_replies} damaged; {moving}; {'; '.join(again)}"
