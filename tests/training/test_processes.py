"""A training in several processes is the training in one: same weights, same curve, failures with their reasons."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_jobs import assert_same_training, curve, make_job, pair_rows, reference_rows, train_alone, train_config

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.models.policy import load_policy
from aipo_lab.stages.definition import Runtime, StageNode, get_stage, run_stage
from aipo_lab.training.adapters import LoraSettings
from aipo_lab.training.config import ParallelSettings
from aipo_lab.training.job import TrainingJob
from aipo_lab.training.launch import launch
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.processes import Processes

TWO = {"processes": 2}


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 5))
def test_every_pair_goes_to_one_process_and_shares_are_balanced(lengths: list[int], count: int) -> None:
    pairs = [EncodedPair(str(i), [1], [1] * n, [1]) for i, n in enumerate(lengths)]
    indices = list(range(len(pairs)))[::-1]
    shares = [Processes(rank, count).share(indices, lambda index: pairs[index].n_tokens) for rank in range(count)]
    assert sorted(index for share in shares for index in share) == sorted(indices)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    tokens = [sum(pairs[index].n_tokens for index in share) for share in shares]
    longest = max((pair.n_tokens for pair in pairs), default=0)
    assert max(tokens) - min(tokens) <= longest


def test_one_process_has_all_pairs_and_sends_nothing() -> None:
    alone = Processes()
    pairs = [EncodedPair(str(i), [1], [1] * i, [1]) for i in range(1, 8)]
    assert sorted(alone.share([5, 2, 6], lambda index: pairs[index].n_tokens)) == [2, 5, 6]
    assert alone.first
    assert alone.sum({"loss": 2.5}, "cpu") == {"loss": 2.5}
    assert alone.most([7, 2.5], "cpu") == [7, 2.5]


@pytest.mark.timeout(280)
def test_two_processes_give_the_weights_and_the_curve_of_one(tmp_path: Path) -> None:
    one = train_alone(tmp_path / "one")
    two = make_job(tmp_path / "two", TWO)
    reached: list[tuple[int, int, str]] = []
    summary = launch(two, lambda *at: reached.append(at))
    # odd batches, and a last one of a single pair: the second process then has none
    assert (summary["steps"], summary["pairs_in_last_step"]) == (4, 1)
    assert summary["final_loss"] == curve(two)[-1]["loss"]
    assert reached[-1] == (4, 4, "steps")
    assert_same_training(one, two)


@pytest.mark.timeout(280)
def test_a_failure_in_a_process_arrives_with_its_reason(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", TWO, max_prompt_tokens=1)
    with pytest.raises(StageFailed, match=r"none of 16 pairs .* \{'prompt_too_long': 16\}"):
        launch(job, lambda *_: None)
    assert not (job.folder / "model").exists()


LAUNCHER = """
import sys
from pathlib import Path
from aipo_lab.training.job import TrainingJob
from aipo_lab.training.launch import launch
launch(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text()), lambda *_: None)
"""


def ranks_of(folder: Path) -> list[int]:
    """Process ids of everything that was started with a path in `folder`, the launcher aside."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in command and "aipo_lab.training.ranks" in command:
            found.append(int(process.name))
    return found


def wait_for(condition: Callable[[], bool], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def kill_in_the_middle(job: TrainingJob, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the job, and end its launcher by SIGKILL when there is a checkpoint; nothing of it stays behind."""
    monkeypatch.setenv("TMPDIR", str(scratch))  # the processes' command lines then name this folder
    (scratch / "job.json").write_text(job.model_dump_json())
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(scratch / "job.json")])
    try:
        wait_for(lambda: any(job.parts.glob("*/step-*")) or launcher.poll() is not None, limit_s=120)
        assert len(ranks_of(scratch)) == 3  # torchrun and its two processes
    finally:
        launcher.send_signal(signal.SIGKILL)
        assert launcher.wait() == -signal.SIGKILL
        wait_for(lambda: not ranks_of(scratch), limit_s=60)


@pytest.mark.timeout(280)
@pytest.mark.skipif(sys.platform != "linux", reason="processes end with their parent on Linux only")
def test_a_killed_launcher_leaves_no_process_and_a_rerun_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"epochs": 50, "learning_rate": 1e-4}  # long enough to be killed in the middle
    job = make_job(tmp_path / "killed", TWO, **changes).model_copy(update={"checkpoint_interval_s": 0.0})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    kill_in_the_middle(job, scratch, monkeypatch)
    assert not (job.folder / "model").exists()
    launch(job.model_copy(update={"checkpoint_interval_s": 1e9}), lambda *_: None)
    assert read_jsonl(job.folder / "speed.jsonl")[0]["step"] > 1  # the first steps were not done again
    assert [row["step"] for row in curve(job)] == list(range(1, 201))
    assert_same_training(train_alone(tmp_path / "one", **changes), job, curve_tolerance=1e-3)


@pytest.mark.timeout(280)
def test_the_train_stage_in_two_processes_writes_an_ordinary_model(
    tmp_path: Path, store: Store, put_artifact: Callable[..., str]
) -> None:
    pytest.importorskip("peft", reason="peft is not installed (pip install 'aipo-lab[lora]')")
    lora = LoraSettings(rank=4, alpha=8)
    one = train_alone(tmp_path / "one", lora=lora)
    inputs = {
        "policy": put_artifact("input", {"model": one.model}),
        "pairs": put_artifact("input", {"pairs.jsonl": pair_rows(16)}),
        "reference": put_artifact("input", {"reference.jsonl": reference_rows(16)}),
    }
    request = ArtifactRequest("train", get_stage("train").version, train_config(lora=lora).model_dump(), inputs)
    node = StageNode(request, Runtime(threads=2, parallel=ParallelSettings(processes=2)))
    artifact = run_stage(node, store, lambda *_: None)
    assert artifact.summary["steps"] == 4
    load_policy(artifact.file("model"), "cpu", "float32")
    assert_same_training(one, one.model_copy(update={"folder": artifact.file("model").parent}))


def _sum_three_gradients(rank: int, folder: str) -> None:
    """In one of two processes: both, one and none of them have reached a parameter."""
    import torch
    import torch.distributed

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    parameters[0].grad = torch.full((2,), 1.0 + rank)
    if rank == 1:
        parameters[1].grad = torch.full((2,), 5.0)
    Processes(rank, 2).sum_gradients(parameters)
    found = [None if one.grad is None else one.grad.tolist() for one in parameters]
    Path(folder, f"rank-{rank}").write_text(repr(found))
    torch.distributed.destroy_process_group()


@pytest.mark.timeout(280)
def test_gradients_are_summed_and_what_no_process_reached_has_none(tmp_path: Path) -> None:
    """Else it would decay in several processes and stay as it is in one."""
    import torch.multiprocessing

    torch.multiprocessing.spawn(_sum_three_gradients, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert (tmp_path / f"rank-{rank}").read_text() == repr([[3.0, 3.0], [5.0, 5.0], None])
