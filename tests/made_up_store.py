"""Artifacts with made-up content for whole sweeps, so that tests and perf/scale.py need no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from aipo_lab.benchmarks.embedded import EMBEDDED_METRICS
from aipo_lab.core.jsonl import write_json, write_jsonl
from aipo_lab.core.store import Store
from aipo_lab.stages.definition import StageNode

SUMMARIES: dict[str, dict[str, Any]] = {
    "instruct": {"counts": {"kept": 3, "malformed": 1}, "prompts": 3},
    "respond": {"responses": 12, "truncated": 0},
    "pair": {"counts": {"kept": 3}, "pairs": 3},
    "train": {"steps": 2, "tokens_per_s": 100.0},
}


def make_up(store: Store, nodes: Iterable[StageNode]) -> None:
    """Publish an artifact for every node."""
    for node in nodes:
        store.make(node.request, content_of(node))


def content_of(node: StageNode) -> Callable[[Path], dict[str, Any]]:
    """What a stage writes, as far as a sweep's results, curves and samples read it; numbers follow from the key."""
    number = int(node.key[:4], 16) / 65536

    def build(folder: Path) -> dict[str, Any]:
        if node.stage == "judge":
            score = {"value": round(100 * number, 3), "se": 1.0, "n": 4}
            write_json(folder / "scores.json", dict.fromkeys(EMBEDDED_METRICS, score))
            write_jsonl(folder / "judgments.jsonl", [{"id": "0", "quality": number}])
        elif node.stage == "answer":
            answer = {"id": "0", "prompt": "p", "text": "t", "tokens": 1, "finish_reason": "stop"}
            write_jsonl(folder / "answers.jsonl", [answer])
        elif node.stage == "train":
            write_jsonl(folder / "curve.jsonl", [{"step": step, "loss": number} for step in (1, 2)])
            write_jsonl(folder / "speed.jsonl", [{"step": step, "tokens_per_s": 100.0} for step in (1, 2)])
        return SUMMARIES.get(node.stage, {})

    return build


class MakeUpExecutor:
    """An executor that publishes made-up artifacts at once, in the calling thread, and counts the seconds."""

    capacity = 1

    def __init__(self, store: Store, failing: frozenset[str] = frozenset()) -> None:
        self.store = store
        self.failing = failing
        self.busy_s = 0.0

    def submit(self, node: StageNode, on_progress: object) -> Future[float]:
        from aipo_lab.core.errors import StageFailed

        future: Future[float] = Future()
        started_s = time.monotonic()
        if node.reference in self.failing:
            future.set_exception(StageFailed("made to fail"))
        else:
            self.store.make(node.request, content_of(node))
            future.set_result(0.01)
        self.busy_s += time.monotonic() - started_s
        return future

    def shutdown(self) -> None:
        """Nothing runs."""
