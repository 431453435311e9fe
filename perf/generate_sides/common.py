"""What the sides share: the job, and how a side says that it is ready and what it wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aipo_lab.models.policy import Policy, load_policy

Work = Callable[[Policy, dict[str, Any], list[list[int]]], list[list[int]]]


def run_side(work: Work) -> None:
    """Warm up on two prompts, say so, and do all of them; `work` gives the tokens of all completions."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    policy = load_policy(Path(job["model"]), "cpu", "float32")
    work(policy, job | {"max_new_tokens": 4}, job["prompts"][:2])
    print(json.dumps({"ready": True}), flush=True)
    made = work(policy, job, job["prompts"])
    assert len(made) == job["n"] * len(job["prompts"])
    tokens = sum(map(len, made))
    print(json.dumps({"completions": len(made), "tokens": tokens}), flush=True)
