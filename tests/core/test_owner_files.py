"""Files that name their owner: one owner at a time, dead ones replaced whenever they died, others never."""

from __future__ import annotations

import errno
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aipo_lab.core.owner_files import OwnerFile
from aipo_lab.core.process_identity import is_alive, is_running, process_of, this_process

DEAD = f"{socket.gethostname()} {os.getpid()} 1 {'a' * 32}"
"""This process's id, and another start."""

TAKE_FOR_EVER = """
import sys
from pathlib import Path
from aipo_lab.core.owner_files import OwnerFile
lock = OwnerFile(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    if lock.take():
        lock.give_back()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.owner"


def test_one_has_it_until_it_is_given_back(path: Path) -> None:
    one, other = OwnerFile(path), OwnerFile(path)
    assert one.take()
    assert path.read_text().startswith(f"{socket.gethostname()} {this_process()} ")
    assert not other.take()
    one.give_back()
    assert other.take()
    other.give_back()
    assert list(path.parent.iterdir()) == []


def test_an_owner_that_is_gone_is_replaced(path: Path) -> None:
    path.write_text(DEAD)
    lock = OwnerFile(path)
    assert lock.take()
    lock.give_back()
    assert list(path.parent.iterdir()) == []


def test_who_died_while_removing_a_dead_owner_is_replaced_too(path: Path) -> None:
    path.write_text(DEAD)
    path.with_name(f"a.owner-{'a' * 32}").write_text(DEAD.replace("a" * 32, "b" * 32))
    assert OwnerFile(path).take()
    assert [one.name for one in path.parent.iterdir()] == ["a.owner"]


@pytest.mark.parametrize(
    "content",
    [DEAD.replace(socket.gethostname(), "elsewhere"), "", "1\nelsewhere\n", "four words of another"],
    ids=["elsewhere", "empty", "of a soft lock", "of something else"],
)
def test_an_owner_on_another_machine_or_of_another_kind_stays(path: Path, content: str) -> None:
    path.write_text(content)
    assert not OwnerFile(path).take()
    assert path.read_text() == content


def test_what_was_removed_by_hand_and_taken_by_another_is_left_to_it(path: Path) -> None:
    one, other = OwnerFile(path), OwnerFile(path)
    assert one.take()
    path.unlink()
    assert other.take()
    one.give_back()
    assert path.exists()
    other.give_back()
    assert not path.exists()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_it_works_without_hard_links(path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(code, "no hard links")

    monkeypatch.setattr(os, "link", no_links)
    test_one_has_it_until_it_is_given_back(path)
    test_an_owner_that_is_gone_is_replaced(path)


@pytest.mark.parametrize("linked", [True, False])
def test_a_network_that_says_it_is_there_already_is_asked_who_put_it_there(
    path: Path, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request to link that is sent twice, as its answer was lost, is refused although the first one did it."""
    link = os.link

    def answer_lost(source: Path, target: Path) -> None:
        if linked:
            link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists", str(source), None, str(target))

    monkeypatch.setattr(os, "link", answer_lost)
    owner = OwnerFile(path)
    assert owner.take() == linked
    assert path.exists() == linked
    if linked:
        owner.give_back()
    assert list(path.parent.iterdir()) == []


def test_of_many_that_find_a_dead_owner_one_takes_its_place(path: Path) -> None:
    locks = [OwnerFile(path) for _ in range(6)]
    start = threading.Barrier(len(locks))
    taken: list[OwnerFile] = []

    def take(lock: OwnerFile) -> None:
        start.wait()
        if lock.take():
            taken.append(lock)

    for _ in range(40):
        path.write_text(DEAD)
        threads = [threading.Thread(target=take, args=(lock,)) for lock in locks]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(taken) <= 1
        if not taken:  # each saw another that was at it; whoever looks again gets it
            assert locks[0].take()
            taken.append(locks[0])
        taken.pop().give_back()
        assert list(path.parent.iterdir()) == []


def test_one_that_is_killed_at_any_moment_holds_nobody_up(path: Path) -> None:
    moments = random.Random(0)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", TAKE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
        ) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0, 0.03))
            owner.kill()
        lock = OwnerFile(path)
        assert lock.take()
        lock.give_back()


def test_processes_are_told_apart_by_their_start() -> None:
    child = subprocess.Popen(["sleep", "60"])
    name = process_of(child.pid)
    assert (is_alive(name), is_running(child.pid)) == (True, True)
    assert not is_alive(f"{child.pid} 1")
    child.kill()
    for _ in range(200):  # killed, and not yet reaped by this process
        if not is_alive(name):
            break
        time.sleep(0.01)
    assert (is_alive(name), is_running(child.pid)) == (False, False)
    child.wait()
    assert (is_alive(name), is_running(child.pid)) == (False, False)
