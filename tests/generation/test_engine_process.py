"""An engine process that fails: it is told what became of it, nothing waits for ever, and nothing of it stays alive."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from aipo_lab.core.errors import MissingDependency, StageFailed
from aipo_lab.generation.engine import open_engine
from aipo_lab.generation.engine_process import EngineProcess, ProcessGroup
from aipo_lab.generation.vllm_engine import WORKER_FILE, VllmEngineSettings, device_groups, problems


def interpreter(path: Path, script: str) -> str:
    """A program that is started where Python would be."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def wait_for_end(process: EngineProcess, doing: str = "loading", silence_s: float = 10.0) -> str:
    with pytest.raises(StageFailed) as caught:
        list(process.answers("ready", silence_s, doing))
    assert not process.is_alive
    return str(caught.value)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_process_that_dies_is_quoted(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "python", "echo 'no such device' >&2; exit 7")
    said = wait_for_end(EngineProcess(python, {}, {}, (str(WORKER_FILE),), "vLLM"))
    assert "ended with exit code 7 while loading" in said
    assert "no such device" in said


def test_silence_ends_a_process_and_all_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    python = interpreter(tmp_path / "python", f"sleep 60 & echo $! > {child}; wait")
    process = EngineProcess(python, {}, {}, (str(WORKER_FILE),), "vLLM")
    until_s = time.monotonic() + 10
    while not (child.is_file() and child.read_text().strip()) and time.monotonic() < until_s:
        time.sleep(0.02)
    started_s = time.monotonic()
    assert "was silent for 0.3 s while generating" in wait_for_end(process, "generating", 0.3)
    assert time.monotonic() - started_s < 10
    pid = int(child.read_text())
    while is_running(pid) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not is_running(pid)


def test_signs_of_life_are_waited_for(tmp_path: Path) -> None:
    alive = 'for i in 1 2 3 4; do sleep 0.2; echo \'{"event": "alive"}\'; done; echo \'{"event": "ready"}\'; sleep 9'
    process = EngineProcess(interpreter(tmp_path / "python", alive), {}, {}, (str(WORKER_FILE),), "vLLM")
    told = [answer["event"] for answer in process.answers("ready", 5.0, "loading")]
    assert told == ["alive"] * 4 + ["ready"]
    process.stop()
    process.stop()
    assert not process.is_alive


def test_a_reported_failure_is_told_with_the_log(tmp_path: Path) -> None:
    script = 'echo \'CUDA out of memory\' >&2; echo \'{"event": "failed", "reason": "ValueError: too large"}\'; sleep 9'
    said = wait_for_end(EngineProcess(interpreter(tmp_path / "python", script), {}, {}, (str(WORKER_FILE),), "vLLM"))
    assert "failed while loading: ValueError: too large" in said
    assert "CUDA out of memory" in said


READY = 'echo \'{"event": "ready"}\''


def group_of(tmp_path: Path, *scripts: str) -> list[partial[EngineProcess]]:
    """What starts a process for each script."""
    pythons = [interpreter(tmp_path / f"python-{n}", script) for n, script in enumerate(scripts)]
    return [partial(EngineProcess, python, {}, {}, (), f"engine {n}") for n, python in enumerate(pythons)]


def test_a_group_with_one_that_cannot_start_leaves_none_running(tmp_path: Path) -> None:
    started: list[EngineProcess] = []

    def start(starting: partial[EngineProcess]) -> EngineProcess:
        started.append(starting())
        return started[-1]

    group = group_of(tmp_path, f"{READY}; sleep 60", "exit 3")
    with pytest.raises(StageFailed, match="engine 1 process ended with exit code 3"):
        ProcessGroup([partial(start, one) for one in group], 10.0)
    assert [process.is_alive for process in started] == [False, False]


def test_a_group_of_which_one_fails_at_work_ends_as_a_whole(tmp_path: Path) -> None:
    done = 'read how; read work; echo \'{"event": "done"}\'; sleep 60'
    group = ProcessGroup(group_of(tmp_path, f"{READY}; {done}", f"{READY}; read how; read work; exit 4"), 10.0)
    both = list(group.processes)
    assert group.is_alive
    with pytest.raises(StageFailed, match="exit code 4 while generating"):
        group.answers([{}, {}], 10.0)
    assert [process.is_alive for process in both] == [False, False]
    assert not group.is_alive


@pytest.mark.parametrize("python", [None, "/nowhere/python"])
def test_a_python_without_vllm_is_told_how_to_get_it(tmp_path: Path, python: str | None) -> None:
    settings = VllmEngineSettings(python=python)
    words = "pip install vllm" if python is None else "'/nowhere/python' cannot be run"
    (problem,) = problems(settings)
    assert words in problem
    with pytest.raises(MissingDependency, match=r"engine"):
        open_engine(settings, tmp_path, "cpu")


@pytest.mark.parametrize(
    ("device", "tensor", "data", "visible", "expected"),
    [
        ("cpu", 1, 2, None, [None, None]),
        ("cuda", 2, 2, None, ["0,1", "2,3"]),
        ("cuda:1", 1, 2, None, ["1", "2"]),
        ("cuda", 2, 1, "5,7", ["5,7"]),
        ("cuda:1", 1, 1, "5,7", ["7"]),
    ],
)
def test_every_process_has_devices_of_its_own(
    device: str, tensor: int, data: int, visible: str | None, expected: list[str | None]
) -> None:
    settings = VllmEngineSettings(tensor_parallel=tensor, data_parallel=data)
    groups = device_groups(settings, device, visible)
    assert [group.get("CUDA_VISIBLE_DEVICES") for group in groups] == expected


def test_more_devices_than_there_are_is_said_before_anything_starts() -> None:
    with pytest.raises(StageFailed, match=r"tensor_parallel 2 x engine.data_parallel 2 .* 4 devices.* shows 3"):
        device_groups(VllmEngineSettings(tensor_parallel=2, data_parallel=2), "cuda", "0,1,2")


def test_the_worker_needs_nothing_of_this_package() -> None:
    assert "aipo_lab" not in WORKER_FILE.read_text().replace("aipo-lab", "")
    assert os.access(WORKER_FILE, os.R_OK)
