"""A process that samples with transformers on a device of its own, one of several that share a generation's prompts.

Requests come as JSON lines on standard input, answers leave as JSON lines on the original standard output, as with
`vllm_worker`: first {"folder", "device", "dtype", "batch_size", "threads"}, answered by {"event": "ready"}; then work,
{"prompts": [[place, token ids], …], "n", "sampling", "seed", "stop", "also_ends", "logprobs"}, answered by a
{"event": "completions", "place", "made"} for each prompt and {"event": "done"}. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

ALIVE_INTERVAL_S = 1.0


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    lock = threading.Lock()

    def say(answer: dict[str, Any]) -> None:
        with lock:
            _write(answers, answer)

    threading.Thread(target=_say_alive, args=(say,), daemon=True).start()
    try:
        _serve(requests, say)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        say({"event": "failed", "reason": f"{type(error).__name__}: {error}"})
        os._exit(1)


def _serve(requests: queue.Queue[str], say: Any) -> None:
    import torch

    from aipo_lab.generation.engine import SamplingConfig
    from aipo_lab.generation.transformers_engine import TransformersEngine
    from aipo_lab.models.policy import load_policy

    how = json.loads(requests.get())
    torch.set_num_threads(how["threads"])
    engine = TransformersEngine(load_policy(Path(how["folder"]), how["device"], how["dtype"]), how["batch_size"])
    say({"event": "ready"})
    while True:
        work = json.loads(requests.get())
        places, prompts = [place for place, _ in work["prompts"]], [prompt for _, prompt in work["prompts"]]
        made = engine.generate_at(
            places,
            prompts,
            work["n"],
            SamplingConfig.model_validate(work["sampling"]),
            work["seed"],
            work["stop"],
            work["also_ends"],
            logprobs=work["logprobs"],
        )
        for place, completions in zip(places, made, strict=True):
            say({"event": "completions", "place": place, "made": [vars(one) for one in completions]})
        say({"event": "done"})


def _say_alive(say: Any) -> None:
    """Loading and decoding take long; a process that is gone says nothing."""
    while True:
        time.sleep(ALIVE_INTERVAL_S)
        say({"event": "alive"})


def _write(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _read_requests(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the parent wants no more, or is gone


if __name__ == "__main__":
    main()
