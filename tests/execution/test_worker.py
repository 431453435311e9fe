"""A worker whose parent is gone ends at once, also inside a stage that says nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.execution.worker import encode_node
from aipo_lab.stages.definition import StageNode, get_stage

PARENT = """
import json, sys
from pathlib import Path
from aipo_lab.core.store import Store
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.execution.worker import decode_node

executor = InlineExecutor(Store(Path(sys.argv[1])), 1)
future = executor.submit(decode_node(json.loads(sys.argv[2])), lambda *_: None)
worker = next(iter(executor._all))
while worker.process is None:
    pass
print(worker.process.pid, flush=True)
future.result(timeout=240)
"""


def silent_node(store: Store) -> StageNode:
    """A stage that waits for ever for the first line of its input, a pipe that nobody writes to."""

    def build(folder: Path) -> dict[str, int]:
        os.mkfifo(folder / "ranking.jsonl")
        return {}

    ranking = store.make(ArtifactRequest("rank", 0, {}, {}), build)
    return StageNode(ArtifactRequest("pair", get_stage("pair").version, {}, {"ranking": f"rank/{ranking.key}"}))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def opens(pid: int, node: StageNode, store: Store) -> bool:
    """Whether the process is inside the stage: it writes the stage's log and nothing has come of it."""
    work = store.root / node.stage / f".work-{node.key}"
    return work.is_dir() and (Path(f"/proc/{pid}/fd/1").resolve() == store.log_path(node.stage, node.key).resolve())


def test_a_worker_in_a_silent_stage_ends_with_its_parent(store: Store) -> None:
    node = silent_node(store)
    arguments = [sys.executable, "-c", PARENT, str(store.root), json.dumps(encode_node(node))]
    parent = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    try:
        deadline = time.monotonic() + 120
        while not opens(worker, node, store):
            assert time.monotonic() < deadline
            assert is_alive(worker)
            time.sleep(0.05)
        time.sleep(1)
        assert is_alive(worker), "the stage ended by itself: it is not silent but done"
        parent.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and is_alive(worker):
            time.sleep(0.05)
        assert not is_alive(worker)
    finally:
        parent.kill()
        parent.communicate(timeout=30)
        if is_alive(worker):
            os.kill(worker, signal.SIGKILL)
