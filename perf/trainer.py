"""Our trainer against TRL's `DPOTrainer`: pairs/s, tokens/s, memory, padding and the share of the machine's peak.

    python perf/trainer.py [--model FOLDER] [--small] [--pairs 32] [--rounds 1] [--threads 2]

Both sides train one epoch of DPO on the same pairs with the same batch size, each run in a process of its own,
alternating. `--small` uses a small random Llama instead of SmolLM2-135M. Needs the `perf` extra (TRL).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from aipo_lab.execution.inline import WORKER_ENVIRONMENT

SIDES = ("ours", "trl_default", "trl_precomputed")
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
        peak_gflops = matrix_peak(arguments.threads)
        results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for number in range(arguments.rounds):
            for side in SIDES:
                results[side].append(run_side(side, Path(model), pairs, arguments))
                print(f"round {number + 1} {side}: {json.dumps(results[side][-1])}", flush=True)
    report({side: medians(runs) for side, runs in results.items()}, peak_gflops)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder (default: the asset smollm2-135m)")
    parser.add_argument("--small", action="store_true", help="a small random Llama")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--micro-batch-tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def make_model(folder: Path, small: bool) -> Path:
    """SmolLM2's folder, or a small random Llama with SmolLM2's tokenizer."""
    from aipo_lab.assets import find

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


def matrix_peak(threads: int) -> float:
    """Measured fp32 matrix product of 2048^3 in GFLOP/s, in a process of its own."""
    code = (
        f"import time, torch; torch.set_num_threads({threads}); a = torch.rand(2048, 2048); torch.mm(a, a)\n"
        "t = time.perf_counter()\nfor _ in range(8): torch.mm(a, a)\n"
        "print(8 * 2 * 2048**3 / (time.perf_counter() - t) / 1e9)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def run_side(side: str, model: Path, pairs: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """One training in a fresh process; its last line of output is the measurement."""
    settings = {
        "model": str(model),
        "pairs": str(pairs),
        "threads": arguments.threads,
        "batch_size": arguments.batch_size,
        "micro_batch_tokens": arguments.micro_batch_tokens,
    }
    script = Path(__file__).parent / "trainer_sides" / ("ours.py" if side == "ours" else "trl_dpo.py")
    command = [sys.executable, str(script), json.dumps(settings | {"precompute": side == "trl_precomputed"})]
    environment = os.environ | (WORKER_ENVIRONMENT if side == "ours" else {})  # what our stages run in
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    if finished.returncode:
        sys.exit(f"{side} failed:\n{finished.stderr[-3000:]}")
    measured: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def report(sides: dict[str, dict[str, float]], peak_gflops: float) -> None:
    print(f"\nfp32 matrix product: {peak_gflops:.0f} GFLOP/s")
    columns = ("pairs_per_s", "tokens_per_s", "peak_rss_gib", "padding_share", "gflops")
    print(f"{'':16}" + "".join(f"{name:>15}" for name in columns))
    for side, measured in sides.items():
        print(f"{side:16}" + "".join(f"{measured[name]:15.3f}" for name in columns))
    ours = sides["ours"]
    print(f"share of the matrix peak reached by ours: {ours['gflops'] / peak_gflops:.2f}")
    for side in SIDES[1:]:
        name = side.removeprefix("trl_")
        print(f"ratio trl_{name} = {ours['pairs_per_s'] / sides[side]['pairs_per_s']:.3f}")
    print(f"ratio memory = {ours['peak_rss_gib'] / sides['trl_default']['peak_rss_gib']:.3f}")


if __name__ == "__main__":
    main()
