"""Our `transformers` engine against a plain loop over `model.generate`: tokens/s on prompts of mixed lengths.

    python perf/generate.py [--model FOLDER] [--prompts 200] [--n 4] [--batch-sizes 32,64,128] [--continuous]
                            [--vllm PYTHON]

Every side is a process of its own that writes all completions; they take turns of a few seconds (the others are
stopped meanwhile), so that all of them meet the same good and bad moments of the machine. The loop runs with every
batch size given; the ratio is against the best of them. `--continuous` adds transformers' own continuous batching,
`--vllm` vLLM in float32, run by a Python that has it (`make test-vllm` makes one: .venv-vllm/bin/python). Tokens
are those of completions, end tokens included and padding left out. All sides hold their memory at once: with 200
prompts about 7 GiB each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aipo_lab.execution.inline import WORKER_ENVIRONMENT

TURN_S = 5.0
SIDES = Path(__file__).parent / "generate_sides"
LONGEST_PASSAGE_WORDS = 300
SHARE_WITH_PASSAGE = 0.4
VLLM_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, so that it stands still as a whole
    "VLLM_CPU_KVCACHE_SPACE": "4",
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONPATH": "",
}


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(make_job(arguments)))
        sides = [Side("lab", ["lab.py", str(job)])]
        sides += [Side(f"loop_{size}", ["loop.py", str(job), size]) for size in arguments.batch_sizes.split(",")]
        if arguments.continuous:
            sides.append(Side("transformers_continuous", ["continuous.py", str(job)]))
        if arguments.vllm:
            sides.append(Side("vllm", ["vllm_cpu.py", str(job)], python=arguments.vllm))
        take_turns(sides, arguments.threads)
    lab, *others = sides
    loops = [side for side in others if side.name.startswith("loop")]
    print(f"ratio generate_loop = {lab.tokens_per_s / max(side.tokens_per_s for side in loops):.3f}")
    for side in others[len(loops) :]:
        print(f"ratio {side.name} = {lab.tokens_per_s / side.tokens_per_s:.3f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder (default: the asset smollm2-135m)")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--n", type=int, default=4, help="completions a prompt")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--batch-sizes", default="32,64,128", help="of the loop, in completions")
    parser.add_argument("--continuous", action="store_true", help="also transformers' own continuous batching")
    parser.add_argument("--vllm", metavar="PYTHON", help="also vLLM, run by this Python")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def make_job(arguments: argparse.Namespace) -> dict[str, Any]:
    """Model, prompts in tokens and settings, the same for all sides."""
    from aipo_lab.assets.library import assets_home
    from aipo_lab.models.chat import encode_prompt, user_message
    from aipo_lab.models.policy import load_policy, load_tokenizer

    model = arguments.model or assets_home() / "smollm2-135m"
    tokenizer = load_tokenizer(model)
    prompts = [encode_prompt(tokenizer, user_message(text)) for text in make_texts(arguments.prompts)]
    lengths = sorted(map(len, prompts))
    print(f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}")
    return {
        "model": str(model),
        "prompts": prompts,
        "ends": sorted(load_policy(model, "cpu", "float32").end_token_ids),
        "n": arguments.n,
        "max_new_tokens": arguments.max_new_tokens,
        "temperature": arguments.temperature,
        "threads": arguments.threads,
    }


def make_texts(count: int) -> list[str]:
    """Short instructions, some of them about a passage of 20 to 300 words made of other instructions."""
    from aipo_lab.worlds.world import get_world

    draw = random.Random(0)
    pool = list(get_world("constraints").pool())
    return [_with_passage(text, pool, draw) for text in draw.choices(pool, k=count)]


def _with_passage(text: str, pool: list[str], draw: random.Random) -> str:
    if draw.random() > SHARE_WITH_PASSAGE:
        return text
    words = " ".join(draw.sample(pool, 40)).split()[: draw.randint(20, LONGEST_PASSAGE_WORDS)]
    return f"{text} Others were asked this, for your information: {' '.join(words)}"


@dataclass
class Side:
    """One side's process, how long it has run and what it wrote."""

    name: str
    command: list[str]
    python: str = sys.executable
    running_s: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def tokens_per_s(self) -> float:
        return float(self.result["tokens"]) / self.running_s

    @property
    def stream(self) -> IO[str]:
        assert self.process is not None and self.process.stdout is not None
        return self.process.stdout

    def start(self, threads: int) -> None:
        """Load the model and warm up; the process stands still afterwards."""
        command = [self.python, str(SIDES / self.command[0]), *self.command[1:]]
        environment = {**os.environ, **WORKER_ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}
        if self.python != sys.executable:
            environment |= VLLM_ENVIRONMENT
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._line()["ready"], self.name
        self.process.send_signal(signal.SIGSTOP)

    def take_turn(self) -> None:
        assert self.process is not None
        start = time.monotonic()
        self.process.send_signal(signal.SIGCONT)
        if select.select([self.stream], [], [], TURN_S)[0]:
            self.result = self._line()
        else:
            self.process.send_signal(signal.SIGSTOP)
        self.running_s += time.monotonic() - start

    def _line(self) -> dict[str, Any]:
        line = self.stream.readline()
        if not line:
            raise SystemExit(f"{self.name} ended before its time; see its error above")
        values: dict[str, Any] = json.loads(line)
        return values

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def take_turns(sides: list[Side], threads: int) -> None:
    """Run all sides to their ends, a turn each after the other."""
    try:
        for side in sides:
            side.start(threads)
        while unfinished := [side for side in sides if not side.result]:
            for side in unfinished:
                side.take_turn()
                if side.result:
                    text = f"{side.name}: {side.tokens_per_s:.1f} tokens/s; {side.running_s:.1f} s; {side.result}"
                    print(text, flush=True)
    finally:
        for side in sides:
            side.end()


if __name__ == "__main__":
    main()
