"""A worker process: runs the stages it is told to, one after the other, keeping models in memory between them.

Requests come as JSON lines on standard input and answers leave as JSON lines on the original standard
output; whatever a stage prints goes to that stage's log. When the parent dies, standard input ends and the
worker ends with it, in the middle of a stage if need be.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from aipo_lab.core.errors import InputLost, MissingDependency, StageFailed, UserError
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.generation.live import stop_live_engines
from aipo_lab.stages.definition import Runtime, StageNode, run_stage

PROGRESS_INTERVAL_S = 0.2
STOP_ENGINES = {"stop": "engines"}
"""What an idle worker is told before a stage of another one needs the machine's memory."""


def encode_node(node: StageNode) -> dict[str, Any]:
    """A node as JSON values."""
    request = node.request
    return {
        "stage": request.stage,
        "version": request.version,
        "config": request.config,
        "inputs": request.inputs,
        "plugins": request.plugins,
        "runtime": node.runtime.model_dump(),
    }


def decode_node(values: dict[str, Any]) -> StageNode:
    """The inverse of `encode_node`."""
    runtime = Runtime.model_validate(values["runtime"])
    fields = {name: values[name] for name in ("stage", "version", "config", "inputs", "plugins")}
    return StageNode(ArtifactRequest(**fields), runtime)


class Worker:
    """Answers requests until standard input ends."""

    def __init__(self, store: Store, answers: TextIO) -> None:
        self.store = store
        self.answers = answers
        self.last_progress_s = 0.0

    def serve(self, requests: queue.Queue[str | None]) -> None:
        """Run every requested stage in turn."""
        while (line := requests.get()) is not None:
            asked = json.loads(line)
            if asked == STOP_ENGINES:
                stop_live_engines()
                self.say({"event": "stopped"})
            else:
                self.say(self.run(decode_node(asked)))

    def run(self, node: StageNode) -> dict[str, Any]:
        """Run one stage; the answer says how it ended."""
        import torch

        torch.set_num_threads(node.runtime.threads)
        started = time.monotonic()
        try:
            with self.store.errors():
                redirect_output(self.store.log_path(node.stage, node.key))
            run_stage(node, self.store, self.progress, lambda: self.say({"event": "waiting"}))
        except InputLost as lost:
            return {"event": "input_lost", "reference": lost.reference, "reason": lost.reason}
        except (StageFailed, UserError, MissingDependency) as error:
            return {"event": "failed", "reason": str(error), "traceback": ""}
        except Exception as error:
            trace = traceback.format_exc()
            with suppress(OSError):  # on a full disk the log is not written; the answer tells all the same
                print(trace, file=sys.stderr, flush=True)
            return {"event": "failed", "reason": f"{type(error).__name__}: {error}", "traceback": trace}
        finally:
            give_memory_back()
        return {"event": "done", "duration_s": time.monotonic() - started}

    def progress(self, done: int, total: int, unit: str) -> None:
        """Pass a stage's progress on, a few times a second at most."""
        now = time.monotonic()
        if done >= total or now - self.last_progress_s >= PROGRESS_INTERVAL_S:
            self.last_progress_s = now
            self.say({"event": "progress", "done": done, "total": total, "unit": unit})

    def say(self, answer: dict[str, Any]) -> None:
        """Send one answer."""
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()


def give_memory_back() -> None:
    """Return freed memory to the system, which the allocator was told to keep (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def redirect_output(path: Path) -> None:
    """Send this process's standard output and error to a fresh log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def _read_requests(requests: queue.Queue[str | None]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the parent is gone: nobody waits for the stage in hand


def main() -> None:
    """Entry point of `python -m aipo_lab.execution.worker STORE`."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    Worker(Store(Path(sys.argv[1])), answers).serve(requests)


if __name__ == "__main__":
    main()
