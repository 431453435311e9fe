"""Our trainer against TRL's `DPOTrainer`: pairs/s, tokens/s, memory, padding and the share of the machine's peak.

    python perf/trainer.py [--model FOLDER] [--small] [--pairs 32] [--rounds 1] [--threads 2]

Both sides train one epoch of DPO on the same pairs with the same batch size, reference pass included, a process each.
They take turns piece by piece (start and reference pass, then every optimiser step), and a matrix product is timed
before each piece, so that all of them meet the same good and bad moments of the machine. `--small` uses a small random
Llama instead of SmolLM2-135M. Needs the `perf` extra (TRL).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import IO, Any

from aipo_lab.execution.inline import WORKER_ENVIRONMENT

PEERS = ("trl_default", "trl_precomputed")
PEAK_S = 0.5
"""How long a matrix product is timed before each piece."""
WORDS = """
river stone morning garden music window winter letter market doctor silver forest bridge summer story yellow engine
travel dinner school paper simple answer number little people water mountain under always because between where green
small often never again country family light house night world place right great
""".split()  # noqa: SIM905


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or make_model(Path(folder), arguments.small)
        pairs = Path(folder) / "pairs.json"
        pairs.write_text(json.dumps(make_pairs(arguments.pairs)))
        ratios: dict[str, float] = {}
        for peer in PEERS:
            ratios |= compare(peer, [run_round(peer, Path(model), pairs, arguments) for _ in range(arguments.rounds)])
    for name, ratio in ratios.items():
        print(f"ratio {name} = {ratio:.3f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder (default: the asset smollm2-135m)")
    parser.add_argument("--small", action="store_true", help="a small random Llama")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--micro-batch-tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def make_model(folder: Path, small: bool) -> Path:
    """SmolLM2's folder, or a small random Llama with SmolLM2's tokenizer."""
    from aipo_lab.assets.library import find

    smollm2 = find("smollm2-135m")
    if not small:
        return smollm2
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(shape).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def make_pairs(n: int) -> list[dict[str, Any]]:
    """Pairs of the kind of the measured baselines: prompts of 10-60 words, responses of 15-110."""
    draw = random.Random(0)

    def words(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high))).capitalize() + "."

    return [
        {
            "id": f"{number:04d}",
            "prompt": [{"role": "user", "content": words(10, 60)}],
            "chosen": [{"role": "assistant", "content": words(15, 110)}],
            "rejected": [{"role": "assistant", "content": words(15, 110)}],
        }
        for number in range(n)
    ]


class Side:
    """A training in a process of its own that does a piece of its work when told to."""

    def __init__(self, name: str, model: Path, pairs: Path, arguments: argparse.Namespace) -> None:
        settings = {
            "model": str(model),
            "pairs": str(pairs),
            "threads": arguments.threads,
            "batch_size": arguments.batch_size,
            "micro_batch_tokens": arguments.micro_batch_tokens,
            "precompute": name == "trl_precomputed",
        }
        script = Path(__file__).parent / "trainer_sides" / ("ours.py" if name == "ours" else "trl_dpo.py")
        environment = WORKER_ENVIRONMENT if name == "ours" else {}  # what our stages run in
        self.name = name
        self.seconds: list[float] = []
        self.facts: dict[str, float] = {}
        self.process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def take_turn(self) -> bool:
        """Let it do its next piece; False if there is none."""
        _stream(self.process.stdin).write("\n")
        _stream(self.process.stdin).flush()
        for line in _stream(self.process.stdout):
            if line.startswith("@"):
                row = json.loads(line[1:])
                if "piece" not in row:
                    self.facts = row
                    return False
                self.seconds.append(row["seconds"])
                print(f"  {self.name:16} {row['piece']:8} {row['seconds']:7.2f} s", flush=True)
                return True
        sys.exit(f"{self.name} ended with exit code {self.process.wait()}")


def _stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def run_round(
    peer: str, model: Path, pairs: Path, arguments: argparse.Namespace
) -> tuple[dict[str, float], dict[str, float]]:
    """One training of ours and one of a peer's, piece by piece; what was measured of each."""
    sides = [Side(name, model, pairs, arguments) for name in ("ours", peer)]
    peaks = []
    waiting = list(sides)
    while waiting:
        for side in list(waiting):
            peaks.append(matrix_gflops(arguments.threads))
            if not side.take_turn():
                waiting.remove(side)
    ours, theirs = (side.facts | {"seconds": sum(side.seconds)} for side in sides)
    for side in (ours, theirs):
        side["pairs_per_s"] = arguments.pairs / side["seconds"]
        side["tokens_per_s"] = ours["tokens"] / side["seconds"]
    ours["gflops"] = ours["flop"] / ours["seconds"] / 1e9
    ours["peak_gflops"] = median(peaks)
    return ours, theirs


def matrix_gflops(threads: int) -> float:
    """The fp32 matrix product of 2048^3 now: the better of torch's own and of the trainer's choice."""
    import torch

    from aipo_lab.training.fused.products import product

    torch.set_num_threads(threads)
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    best = 0.0
    for multiply in (torch.mm, product):
        multiply(a, b)
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < PEAK_S / 2:
            multiply(a, b)
            count += 1
        best = max(best, count * 2 * 2048**3 / (time.perf_counter() - started) / 1e9)
    return best


def compare(peer: str, rounds: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, float]:
    """Print a table of medians; returns the ratios, medians of those of the rounds."""
    ours, theirs = ({name: median(pair[i][name] for pair in rounds) for name in rounds[0][i]} for i in (0, 1))
    columns = ("pairs_per_s", "tokens_per_s", "peak_rss_gib", "final_loss")
    print(f"\n{'':16}" + "".join(f"{name:>15}" for name in columns))
    for name, side in (("ours", ours), (peer, theirs)):
        print(f"{name:16}" + "".join(f"{side[column]:15.3f}" for column in columns))
    print(
        f"padding {ours['padding_share']:.1%}; {ours['computed_tokens']:.0f} tokens computed for {ours['tokens']:.0f}"
    )
    shares = [one["gflops"] / one["peak_gflops"] for one, _ in rounds]
    print(
        f"ours: {ours['gflops']:.0f} GFLOP/s; fp32 matrix product meanwhile: {ours['peak_gflops']:.0f} GFLOP/s; "
        f"share {median(shares):.2f}"
    )
    ratios = [one["pairs_per_s"] / other["pairs_per_s"] for one, other in rounds]
    print("ratios of the rounds: " + ", ".join(f"{ratio:.2f}" for ratio in ratios) + "\n", flush=True)
    memory = {"memory": ours["peak_rss_gib"] / theirs["peak_rss_gib"]} if peer == "trl_default" else {}
    return {peer: median(ratios)} | memory


if __name__ == "__main__":
    main()
