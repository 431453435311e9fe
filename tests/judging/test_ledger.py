from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeReply
from aipo_lab.judging.ledger import SLOT_BYTES, SharedBudget, ledger_path, remove_abandoned
from aipo_lab.judging.money import Budget, Price, Purse
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings

from .conftest import requests, silent
from .judge_server import Body, JudgeServer

PREPARE = """
import sys, time
from pathlib import Path
from aipo_lab.judging.ledger import SharedBudget
budget = SharedBudget.open(Path(sys.argv[1]))
"""
RESERVE_AND_STAY = PREPARE + "print(budget.reserve(2.0), budget.reserve(1.0), flush=True)\ntime.sleep(60)"
KEEP_A_LEDGER = """
import sys, time
from pathlib import Path
from aipo_lab.judging.ledger import SharedBudget, ledger_path
print(SharedBudget.create(ledger_path(Path(sys.argv[1])), None).path, flush=True)
time.sleep(60)
"""
SPEND = PREPARE + "while budget.reserve(0.25):\n    budget.settle(0.25, 0.1)\nprint(budget.has_reservations)"
SPEND_FOR_EVER = (
    PREPARE
    + """
print("started", flush=True)
while True:
    assert budget.reserve(0.25)
    budget.settle(0.25, 0.125)
"""
)
ASK = (
    PREPARE
    + """
from aipo_lab.judging.calls import JudgeRequest, Message
from aipo_lab.judging.money import BudgetReached, Price
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings
prices = {"m": Price(input=0, output=1e6 / 1024)}
settings = JudgeSettings(model="m", base_url=sys.argv[2], concurrency=4, prices=prices)
asked = [JudgeRequest((Message("user", f"{sys.argv[4]} {n}"),), 32, 0.0) for n in range(40)]
try:
    open_judge(settings, Path(sys.argv[3]), budget=budget).ask(asked, lambda *_: None)
except BudgetReached as reached:
    print("reached", reached)
"""
)


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


amounts = st.integers(0, 40).map(lambda n: n / 8)  # exact, so that floats and whole numbers agree on what fits


@settings(max_examples=50, deadline=None)
@given(
    st.one_of(st.none(), amounts.map(lambda usd: usd * 4)),
    st.lists(st.tuples(amounts, st.floats(0, 1), st.booleans()), max_size=25),
)
def test_it_does_what_the_budget_of_one_process_does(
    tmp_path_factory: pytest.TempPathFactory, limit_usd: float | None, calls: list[tuple[float, float, bool]]
) -> None:
    alone = Budget(limit_usd)
    shared = SharedBudget.create(tmp_path_factory.mktemp("ledger") / "file", limit_usd)
    under_way: list[tuple[float, float, bool]] = []
    for most_usd, share, answered in calls:
        assert shared.could_pay(most_usd) == alone.could_pay(most_usd)
        reserved = alone.reserve(most_usd)
        assert shared.reserve(most_usd) == reserved
        if reserved:
            under_way.append((most_usd, round(most_usd * share * 8) / 8, answered))
        if len(under_way) > 3:
            reserved_usd, spent_usd, counts = under_way.pop(0)
            for purse in (alone, shared):
                purse.settle(reserved_usd, spent_usd, answered=counts)
        assert look(shared) == look(alone)


def look(purse: Purse) -> tuple[object, ...]:
    return purse.limit_usd, purse.spent_usd, purse.lost_usd, purse.n_calls, purse.has_reservations


def test_ten_dimes_are_a_dollar(path: Path) -> None:
    budget = SharedBudget.create(path, 1.0)
    assert [budget.reserve(0.1) for _ in range(11)] == [True] * 10 + [False]
    for _ in range(10):
        budget.settle(0.1, 0.1)
    assert (budget.spent_usd, budget.n_calls, budget.has_reservations) == (1.0, 10, False)


def test_processes_together_keep_the_limit_and_use_it_up(path: Path) -> None:
    budget = SharedBudget.create(path, 100.0)
    workers = [start(SPEND, path) for _ in range(4)]
    assert "False" in [finish(worker).strip() for worker in workers]  # at least the last one saw nobody else
    # 0.1 each, 0.25 reserved: the last that fits starts at 99.7; who reserved at the wrong moment may stop earlier
    assert 99.0 <= budget.spent_usd <= 100.0
    assert budget.n_calls == round(budget.spent_usd / 0.1)
    assert (budget.has_reservations, budget.lost_usd) == (False, 0.0)


def test_threads_with_objects_of_their_own_lose_no_count(path: Path) -> None:
    SharedBudget.create(path, None)

    def spend(_: int) -> None:
        budget = SharedBudget.open(path)
        for _ in range(100):
            assert budget.reserve(1.0)
            budget.settle(1.0, 0.5, answered=False)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(spend, range(4)))
    budget = SharedBudget.open(path)
    assert (budget.spent_usd, budget.n_calls, budget.has_reservations) == (200.0, 0, False)


def test_what_a_killed_process_reserved_is_lost_but_not_waited_for(path: Path) -> None:
    budget = SharedBudget.create(path, 5.0)
    with start(RESERVE_AND_STAY, path) as worker:
        assert first_line(worker) == "True True\n"
        assert budget.has_reservations
        assert budget.lost_usd == 0.0
        assert (budget.reserve(3.0), budget.could_pay(3.0)) == (False, True)
        assert budget.reserve(1.0)
        os.kill(worker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody has reaped it
        assert budget.has_reservations  # its own
        budget.settle(1.0, 0.5)
        assert not budget.has_reservations
    assert (budget.lost_usd, budget.spent_usd, budget.n_calls) == (3.0, 0.5, 1)
    assert (budget.could_pay(1.5), budget.could_pay(1.75), budget.reserve(1.75)) == (True, False, False)
    assert finish(start(SPEND, path)) == "False\n"  # the command goes on with another worker
    assert 0.5 + 0.75 < budget.spent_usd <= 2.0


def test_a_forked_child_owns_only_what_it_reserved_itself(path: Path) -> None:
    budget = SharedBudget.create(path, 5.0)
    assert budget.reserve(1.0)
    child = os.fork()
    if child == 0:
        os._exit(10 if budget.reserve(2.0) else 11)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert budget.lost_usd == 2.0
    budget.settle(1.0, 0.5)
    assert (budget.has_reservations, budget.spent_usd, budget.lost_usd) == (False, 0.5, 2.0)


def test_a_kill_at_any_moment_leaves_a_sound_file(path: Path) -> None:
    budget = SharedBudget.create(path, None)
    n_calls, spent_usd = 0, 0.0
    for number in range(12):
        with start(SPEND_FOR_EVER, path) as worker:
            assert first_line(worker) == "started\n"
            time.sleep(0.003 * number)
            os.kill(worker.pid, signal.SIGKILL)
        assert not budget.has_reservations
        assert budget.n_calls >= n_calls
        n_calls, spent_usd = budget.n_calls, budget.spent_usd
        assert spent_usd == n_calls * 0.125
        assert budget.lost_usd in {n * 0.25 for n in range(number + 2)}
    assert n_calls > 100


@pytest.mark.parametrize("n_kept", [0, 10, 40])
def test_a_write_that_was_cut_short_never_happened(path: Path, n_kept: int) -> None:
    budget = SharedBudget.create(path, None)
    before = path.read_bytes()
    assert budget.reserve(1.0)
    written = path.read_bytes()
    path.write_bytes(before.ljust(SLOT_BYTES, b"\0") + written[SLOT_BYTES : SLOT_BYTES + n_kept])
    assert not budget.has_reservations
    assert budget.reserve(2.0)
    budget.settle(2.0, 0.5)
    assert SharedBudget.open(path).spent_usd == 0.5


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\0" * 100, b"\xff" * 3 * SLOT_BYTES], ids=["empty", "text", "zeros", "ones"]
)
def test_a_damaged_file_is_a_user_error(path: Path, content: bytes) -> None:
    budget = SharedBudget.create(path, 1.0)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"ledger.*damaged.*Run the same command again"):
        budget.reserve(0.5)


def test_a_file_that_is_gone_is_a_user_error(path: Path) -> None:
    budget = SharedBudget.create(path, 1.0)
    path.unlink()
    with pytest.raises(UserError, match="No such file"):
        budget.reserve(0.5)
    with pytest.raises(UserError, match="No such file"):
        SharedBudget.open(path)
    assert not path.exists()


def test_a_second_command_cannot_reset_the_ledger(path: Path) -> None:
    SharedBudget.create(path, 1.0).reserve(0.75)
    with pytest.raises(FileExistsError):
        SharedBudget.create(path, 1.0)
    assert not SharedBudget.open(path).reserve(0.5)


def test_ledgers_of_killed_commands_are_removed_and_no_others(tmp_path: Path) -> None:
    with start(KEEP_A_LEDGER, tmp_path) as killed, start(KEEP_A_LEDGER, tmp_path) as alive:
        abandoned, kept = (Path(first_line(command).strip()) for command in (killed, alive))
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        here = str(killed.pid)
        others = [tmp_path / abandoned.name.replace(here, name) for name in ("elsewhere-" + here, "x")]
        others += [tmp_path / "summary.json", ledger_path(tmp_path)]
        for path in others:
            path.touch()
        remove_abandoned(tmp_path)
        assert set(tmp_path.iterdir()) == {kept, *others}
        assert SharedBudget.open(kept).n_calls == 0
        os.kill(alive.pid, signal.SIGKILL)
    remove_abandoned(tmp_path)
    assert set(tmp_path.iterdir()) == set(others)


def test_judges_in_several_processes_keep_one_limit(path: Path, tmp_path: Path) -> None:
    # 16 tokens of 1/1024 USD each, 32 reserved: after n calls the next starts if 16 n + 32 <= 500, so 30 are made
    budget = SharedBudget.create(path, 500 / 1024)
    with JudgeServer(
        lambda body: "ok", completion_tokens=lambda body, text: 16, prompt_tokens=lambda body: 1, latency_s=0.01
    ) as server:
        arguments = (path, server.base_url, tmp_path / "calls")
        outputs = [finish(worker) for worker in [start(ASK, *arguments, name) for name in "abc"]]
        assert server.answered_total == 30
        assert all("reached" in output for output in outputs)
    assert (budget.n_calls, budget.spent_usd, budget.lost_usd) == (30, 480 / 1024, 0.0)


def test_a_judge_counts_answered_calls_only(path: Path, tmp_path: Path) -> None:
    def fault(body: Body, n: int) -> str | None:
        return "server_error" if body["messages"][0]["content"].endswith(("1", "3")) else None

    price = Price(input=0, output=1e6)
    with JudgeServer(lambda body: "ok", fault=fault, completion_tokens=lambda body, text: 2) as server:
        judge = JudgeSettings(model="m", base_url=server.base_url, prices={"m": price}, attempts=1)
        for purse in (Budget(None), SharedBudget.create(path, None)):
            folder = tmp_path / type(purse).__name__
            outcomes = open_judge(judge, folder, budget=purse).ask(requests(5), silent)
            assert sum(isinstance(outcome, JudgeReply) for outcome in outcomes) == 3
            assert (purse.n_calls, purse.spent_usd, purse.has_reservations) == (3, 6.0, False)


def test_the_message_at_the_limit_names_what_killed_processes_may_have_cost(path: Path, tmp_path: Path) -> None:
    SharedBudget.create(path, 3.0 + 16 / 1024)
    with start(RESERVE_AND_STAY, path) as worker:
        assert first_line(worker) == "True True\n"
        os.kill(worker.pid, signal.SIGKILL)
    with JudgeServer(lambda body: "ok") as server:
        output = finish(start(ASK, path, server.base_url, tmp_path / "calls", "a"))
    assert "$0.00 spent and $3.00 that calls without an answer may have cost" in output


def test_a_process_whose_id_was_used_before_does_not_own_what_the_earlier_one_reserved(path: Path) -> None:
    budget = SharedBudget.create(path, 5.0)
    earlier = f"{os.getpid()} 1"  # this process's id, and another start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aipo_lab.judging.ledger.this_process", lambda: earlier)
        assert budget.reserve(2.0)
    assert not budget.has_reservations
    assert budget.lost_usd == 2.0
    assert budget.reserve(1.0)
    assert budget.has_reservations
    budget.settle(1.0, 0.5)
    assert (budget.lost_usd, budget.spent_usd, budget.could_pay(2.5), budget.could_pay(2.75)) == (2.0, 0.5, True, False)
