"""The process that holds a vLLM engine: run as a file by any Python that has vLLM, without this package.

Requests come as JSON lines on standard input, answers leave as JSON lines on the original standard output, and whatever
vLLM prints goes to standard error. The first line says how the engine is made; each further one holds requests to
complete, which are answered one by one as they end. When standard input ends, the parent has gone or wants no more, and
everything ends with it.

In:  {"model": …, "dtype": …, …}, then {"requests": [{"id", "prompt", "seed", "max_tokens"}], "sampling": {…},
     "ends": [token ids], "stop": [strings], "logprobs": bool}
Out: {"event": "ready", "version"}, {"event": "alive"}, {"event": "completion", "id", "token_ids", "finish_reason",
     "logprobs"}, {"event": "done"}, {"event": "failed", "reason"}
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import Any

ALIVE_INTERVAL_S = 1.0


class Worker:
    """One vLLM engine and what it is asked."""

    def __init__(self, answers: Any) -> None:
        self.answers = answers
        self.llm: Any = None
        self.told_s = 0.0

    def start(self, how: dict[str, Any]) -> None:
        """Load the model."""
        import vllm

        self.llm = vllm.LLM(generation_config="vllm", disable_log_stats=True, **how)
        self.say({"event": "ready", "version": vllm.__version__})

    def complete(self, work: dict[str, Any]) -> None:
        """Complete every request of `work`, in any order."""
        from vllm import TokensPrompt

        engine = self.llm.llm_engine
        for request in work["requests"]:
            prompt = TokensPrompt(prompt_token_ids=request["prompt"])
            engine.add_request(str(request["id"]), prompt, self.parameters(work, request))
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    self.say(completion(output))
            self.tell_alive()
        self.say({"event": "done"})

    def parameters(self, work: dict[str, Any], request: dict[str, Any]) -> Any:
        """vLLM's sampling parameters. Text is made only where stop strings are looked for in it."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            n=1,
            **work["sampling"],
            seed=request["seed"],
            max_tokens=request["max_tokens"],
            ignore_eos=True,  # which tokens end a completion is said in `ends`
            stop_token_ids=work["ends"],
            stop=work["stop"] or None,
            include_stop_str_in_output=bool(work["stop"]),
            detokenize=bool(work["stop"]),
            logprobs=0 if work["logprobs"] else None,  # of the sampled token alone
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def tell_alive(self) -> None:
        """Say now and then that work goes on: silence means that the engine hangs."""
        now_s = time.monotonic()
        if now_s - self.told_s >= ALIVE_INTERVAL_S:
            self.told_s = now_s
            self.say({"event": "alive"})

    def say(self, answer: dict[str, Any]) -> None:
        """Send one answer."""
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()


def completion(output: Any) -> dict[str, Any]:
    """A finished request as an answer."""
    made = output.outputs[0]
    tokens = list(made.token_ids)
    logprobs = made.logprobs and [place[token].logprob for place, token in zip(made.logprobs, tokens, strict=True)]
    return {
        "event": "completion",
        "id": int(output.request_id.split("-")[0]),  # some versions add a random end
        "token_ids": tokens,
        "finish_reason": made.finish_reason,
        "logprobs": logprobs,
    }


def _read_requests(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os.killpg(0, signal.SIGKILL)  # with vLLM's own processes, which may be deep in work


def main() -> None:
    """Answer until standard input ends; the parent has made this process the first of its group."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    worker = Worker(answers)
    while True:
        try:
            asked = json.loads(requests.get())
            worker.start(asked) if worker.llm is None else worker.complete(asked)
        except Exception as error:
            traceback.print_exc()
            worker.say({"event": "failed", "reason": f"{type(error).__name__}: {error}"})
            sys.stderr.flush()
            os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
