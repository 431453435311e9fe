"""Our trainer against TRL's `DPOTrainer`: speed from the start and steady, memory, padding, share of the peak.

    python perf/trainer.py [--realistic] [--device cuda] [--model FOLDER] [--pairs N] [--rounds 1] [--threads 2]

Both sides train one epoch of DPO on the same pairs, reference pass included, a process each, with the same settings of
the memory allocator. TRL has its best ordinary settings: 2 pairs at once and 4 accumulated, the reference computed
beforehand, no gradient checkpointing, bf16 on a GPU, FlashAttention's padding-free batches and Liger where they are
installed. Sides take turns piece by piece (start and reference pass, then every optimiser step), and a matrix product
is timed before each piece, so that both meet the same good and bad moments of the machine.

A comparison is a peer and a size of our micro-batches: `2x4` our usual size against TRL 2×4, `2x4_equal` as many tokens
at once as TRL; `8x1` and `8x1_equal` the same against 8 pairs at once. `from_start` counts encoding and the reference
pass too, `cpu` the same in seconds of the processor, which other work on the machine changes little, `steady` only the
steps after the first, by their tokens. `--realistic` adds pairs of realistic lengths, on a
smaller model. On two cores: 4 minutes, 12 with `--realistic`. Needs the `perf` extra (TRL).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

from aipo_lab.execution.inline import WORKER_ENVIRONMENT

SIDES = Path(__file__).parent / "trainer_sides"
sys.path.append(str(SIDES))
from workload import SHAPES, realistic_pairs, short_pairs, write_model  # noqa: E402

PEAK_S = 0.5
"""How long a matrix product is timed before each piece."""

QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Kind:
    """Pairs of one kind of lengths: what is trained on them, and our usual tokens of a micro-batch."""

    name: str
    model: Path
    pairs: Path
    n_pairs: int
    usual_tokens: int
    peers: tuple[int, ...]


@dataclass
class SideOutcome:
    """What was measured of one side: pieces in order as (seconds, processor seconds, tokens), and its own facts."""

    pieces: list[tuple[float, float, int]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return sum(seconds for seconds, _, _ in self.pieces)

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all threads: what a busy machine changes little."""
        return sum(cpu_s for _, cpu_s, _ in self.pieces)

    @property
    def steady_tokens_per_s(self) -> float:
        """Of the steps after the first (the first of all pieces is the start)."""
        steps = self.pieces[2:] or self.pieces[1:]
        return sum(tokens for _, _, tokens in steps) / sum(seconds for seconds, _, _ in steps)


def main() -> None:
    arguments = parse_arguments()
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds(arguments, Path(folder)):
            for pairs_at_once in (n for n in kind.peers if n <= arguments.batch_size):
                ratios |= compare(kind, pairs_at_once, arguments)
    for name, ratio in ratios.items():
        print(f"ratio {name} = {ratio:.3f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder (default: the asset smollm2-135m)")
    parser.add_argument("--realistic", action="store_true", help="also prompts to 512 and responses to 2,048 tokens")
    parser.add_argument("--only-realistic", action="store_true", help="these alone")
    parser.add_argument("--shape", choices=SHAPES, help="a random Llama of this size instead (1b to 7b: for GPUs)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--pairs", type=int, help="pairs of each kind (default: 32 short, 24 realistic)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def kinds(arguments: argparse.Namespace, folder: Path) -> Iterator[Kind]:
    """The kinds of pairs that were asked for, their files written."""
    random = write_model(folder / arguments.shape, arguments.shape) if arguments.shape else None
    if not arguments.only_realistic:
        pairs = short_pairs(arguments.pairs or 32)
        model = arguments.model or random or _smollm2()
        yield Kind("short", model, _written(pairs, folder / "short.json"), len(pairs), 1024, (2, 8))
    if arguments.realistic or arguments.only_realistic:
        pairs = realistic_pairs(arguments.pairs or 24)
        model = arguments.model or random or write_model(folder / "realistic", "realistic")
        yield Kind("realistic", model, _written(pairs, folder / "realistic.json"), len(pairs), 4096, (2,))


def _smollm2() -> Path:
    from aipo_lab.assets.library import find

    return find("smollm2-135m")


def _written(pairs: list[dict[str, Any]], path: Path) -> Path:
    path.write_text(json.dumps(pairs))
    return path


def compare(kind: Kind, pairs_at_once: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Ours, at its usual micro-batches and at TRL's, against TRL; prints tables and returns the ratios."""
    name = f"{kind.name}_{pairs_at_once}x{arguments.batch_size // pairs_at_once}"
    rounds = [run_round(kind, pairs_at_once, kind.usual_tokens, arguments) for _ in range(arguments.rounds)]
    usual = show(name, f"micro-batches of {kind.usual_tokens} tokens", rounds, kind)
    equal_tokens = rounds[0][1].facts["largest_micro_batch"]
    print(f"\n{name}_equal: micro-batches of {equal_tokens} tokens, as TRL's largest", flush=True)
    alone = _side("ours", kind, pairs_at_once, equal_tokens, arguments)
    run_sides([alone], arguments)
    ours_gib, theirs_gib = alone.outcome.facts["peak_gib"], median(one[1].facts["peak_gib"] for one in rounds)
    print(f"  ours {ours_gib:.2f} GiB, TRL {theirs_gib:.2f} GiB")
    return usual | {f"memory_{name}_equal": ours_gib / theirs_gib}


class Side:
    """A training in a process of its own that does a piece of its work when told to."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.outcome = SideOutcome()
        self.process = subprocess.Popen(
            [sys.executable, str(SIDES / ("ours.py" if name == "ours" else "trl_dpo.py")), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | WORKER_ENVIRONMENT | QUIET,  # what our stages run in, for both
        )

    def take_turn(self) -> bool:
        """Let it do its next piece; False if there is none."""
        _stream(self.process.stdin).write("\n")
        _stream(self.process.stdin).flush()
        for line in _stream(self.process.stdout):
            if line.startswith("@"):
                row = json.loads(line[1:])
                if "piece" not in row:
                    self.outcome.facts = row
                    self.process.wait()
                    return False
                self.outcome.pieces.append((row["seconds"], row["cpu_s"], row["tokens"]))
                times = f"{row['seconds']:7.2f} s, {row['cpu_s']:7.2f} s of the processor"
                print(f"  {self.name:6} {row['piece']:8} {times}", flush=True)
                return True
        sys.exit(f"{self.name} ended with exit code {self.process.wait()}")


def _stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _side(name: str, kind: Kind, pairs_at_once: int, tokens: int, arguments: argparse.Namespace) -> Side:
    return Side(
        name,
        {
            "model": str(kind.model),
            "pairs": str(kind.pairs),
            "threads": arguments.threads,
            "device": arguments.device,
            "batch_size": arguments.batch_size,
            "pairs_at_once": pairs_at_once,
            "micro_batch_tokens": tokens,
        },
    )


Round = tuple[SideOutcome, SideOutcome, float]
"""Ours, TRL's, and the median matrix product meanwhile in GFLOP/s (0 on a GPU)."""


def run_round(kind: Kind, pairs_at_once: int, tokens: int, arguments: argparse.Namespace) -> Round:
    """One training of ours and one of TRL's, piece by piece."""
    print(f"\n{kind.name}: {kind.n_pairs} pairs, TRL {pairs_at_once} at once", flush=True)
    sides = [_side(name, kind, pairs_at_once, tokens, arguments) for name in ("ours", "trl")]
    peaks = run_sides(sides, arguments)
    return sides[0].outcome, sides[1].outcome, median(peaks) if peaks else 0.0


def run_sides(sides: list[Side], arguments: argparse.Namespace) -> list[float]:
    """Let the sides take turns to their ends; returns the matrix products timed between."""
    peaks = []
    waiting = list(sides)
    while waiting:
        for side in list(waiting):
            if arguments.device == "cpu":
                peaks.append(matrix_gflops(arguments.threads))
            if not side.take_turn():
                waiting.remove(side)
    return peaks


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


def show(name: str, what: str, rounds: list[Round], kind: Kind) -> dict[str, float]:
    """Print a table of medians; returns the ratios, medians of those of the rounds."""
    print(f"\n{name}: ours with {what}")
    print(f"{'':6}{'pairs/s':>12}{'steady tok/s':>15}{'peak GiB':>12}{'final loss':>12}")
    for number, side in enumerate(("ours", "trl")):
        rows = [(one[number].seconds, one[number].steady_tokens_per_s, one[number].facts) for one in rounds]
        seconds, steady = median(row[0] for row in rows), median(row[1] for row in rows)
        peak, loss = (median(row[2][fact] for row in rows) for fact in ("peak_gib", "final_loss"))
        print(f"{side:6}{kind.n_pairs / seconds:12.3f}{steady:15.1f}{peak:12.2f}{loss:12.4f}")
    ours, theirs, peak_gflops = rounds[0]
    print(
        f"padding of ours {ours.facts['padding_share']:.1%}; {ours.facts['computed_tokens']} tokens computed for "
        f"{ours.facts['tokens']}; TRL's largest micro-batch {theirs.facts['largest_micro_batch']} tokens, "
        + ", ".join(f"{option}: {value}" for option, value in theirs.facts["options"].items())
    )
    if peak_gflops:
        gflops = ours.facts["flop"] / ours.seconds / 1e9
        print(f"ours {gflops:.0f} GFLOP/s; fp32 matrix product meanwhile {peak_gflops:.0f} GFLOP/s")
    return {
        f"{name}_from_start": median(theirs.seconds / ours.seconds for ours, theirs, _ in rounds),
        f"{name}_cpu": median(theirs.cpu_s / ours.cpu_s for ours, theirs, _ in rounds),
        f"{name}_steady": median(ours.steady_tokens_per_s / theirs.steady_tokens_per_s for ours, theirs, _ in rounds),
        f"memory_{name}": median(ours.facts["peak_gib"] / theirs.facts["peak_gib"] for ours, theirs, _ in rounds),
    }


if __name__ == "__main__":
    main()
