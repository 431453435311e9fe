"""The stage `train_reward`: a training killed by SIGKILL goes on from its checkpoint and ends with the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.stages.definition import Runtime, StageNode, get_stage, run_stage
from aipo_lab.worlds.world import get_world

CONFIG = {"seed": 3, "max_tokens": 64, "chat": {}, "epochs": 2, "batch_size": 4, "learning_rate": 0.003}
KILLED_AT = 4

# Runs the stage of a store with a checkpoint after every step, and dies by SIGKILL once `kill_at` of them are done.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.stages.definition import Runtime, StageNode, get_stage, run_stage

root, config, inputs, kill_at = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
def progress(done, total, unit):
    if unit == "steps" and done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
request = ArtifactRequest("train_reward", get_stage("train_reward").version, config, inputs)
run_stage(StageNode(request, Runtime(threads=1, checkpoint_interval_s=0)), Store(root), progress)
"""


def ranking() -> list[dict[str, Any]]:
    texts = ["The fox is red.", "That is worth knowing.", "The fox."]
    return [
        {"id": f"{i}", "prompt": prompt, "scores": [2.0, 1.0, 0.0], "responses": [{"text": text} for text in texts]}
        for i, prompt in enumerate(get_world("micro").pool(10))
    ]


def test_a_killed_training_ends_with_the_same_bytes(
    store: Store, put_artifact: Callable[..., str], base_model_folder: Path
) -> None:
    inputs = {
        "policy": put_artifact("base", {"model": base_model_folder}),
        "ranking": put_artifact("rank", {"ranking.jsonl": ranking()}),
    }
    request = ArtifactRequest("train_reward", get_stage("train_reward").version, CONFIG, inputs)
    node = StageNode(request, Runtime(threads=1, checkpoint_interval_s=0))
    arguments = [str(store.root), json.dumps(CONFIG), json.dumps(inputs), str(KILLED_AT)]
    assert subprocess.run([sys.executable, "-c", SCRIPT, *arguments], timeout=200).returncode == -signal.SIGKILL
    assert store.find("train_reward", request.key) is None
    (left,) = (store.root / "train_reward").glob(".work-*/parts/reward")
    assert max(one.name for one in left.iterdir()) == f"step-{KILLED_AT:08d}"

    resumed_steps, whole_steps = list[int](), list[int]()
    resumed = run_stage(node, store, lambda done, _, unit: resumed_steps.append(done))
    other_store = Store(store.root.with_name("other"))
    for reference in inputs.values():
        (other_store.root / reference).parent.mkdir(parents=True)
        (other_store.root / reference).symlink_to(store.root / reference)
    whole = run_stage(node, other_store, lambda done, _, unit: whole_steps.append(done))
    assert whole_steps == list(range(1, len(whole_steps) + 1)) and len(whole_steps) > 2 * KILLED_AT
    assert resumed_steps == whole_steps[KILLED_AT:]
    assert resumed.manifest["files"] == whole.manifest["files"]  # names, sizes and hashes
    assert resumed.summary == whole.summary
