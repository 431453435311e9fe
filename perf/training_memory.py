"""What a training takes of memory against what `training/memory_plan.py` says, on the processor, one mode at a time.

    python perf/training_memory.py [--modes float32,bf16_weights]

Every mode is a process (with fsdp two) that trains a random Llama of 32 M parameters for two steps. Its growth of
resident memory, from after the imports to the highest point, is set against the plan; what a GPU's context takes is in
neither. Tensors of 64 KiB and more are mapped one by one, so that what was freed does not count: a heap that keeps it
for the next tensor (as workers' heaps do, for speed) added 0.1 to 0.2 GiB. The last lines are
`ratio <mode> = <measured / planned>`; wanted is 0.85 to 1.15.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "float32": ({}, {}),
    "checkpointing": ({"gradient_checkpointing": True}, {}),
    "adamw_bf16": ({"optimizer": "adamw_bf16"}, {}),
    "bfloat16": ({"precision": "bfloat16"}, {}),
    "bf16_weights": ({"precision": "bfloat16", "weights": "bfloat16", "optimizer": "adamw_bf16"}, {}),
    "fsdp": ({}, {"processes": 2, "parallel": "fsdp"}),
    "fsdp_checkpointing": ({"gradient_checkpointing": True}, {"processes": 2, "parallel": "fsdp"}),
}
COMMON = {
    "batch_size": 4,
    "micro_batch_tokens": 2048,
    "max_prompt_tokens": 128,
    "max_response_tokens": 192,
    "warmup_ratio": 0.0,
    "learning_rate": 1e-4,
}
N_PAIRS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", default=",".join(MODES), help="which of them, with commas")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.child, Path(options.folder))
        return
    ratios = {}
    with tempfile.TemporaryDirectory(prefix="aipo-lab-memory-") as name:
        folder = make_model(Path(name) / "model")
        for mode in options.modes.split(","):
            measured, planned, parts = run(mode, folder)
            ratios[mode] = measured / planned
            print(f"{mode}: {measured:.2f} GiB measured, {planned:.2f} planned ({parts})", flush=True)
    for mode, ratio in ratios.items():
        print(f"ratio {mode} = {ratio:.2f}")


def make_model(folder: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from aipo_lab.worlds.micro.tokenizer import build_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def run(mode: str, folder: Path) -> tuple[float, float, str]:
    """Measured and planned GiB, of the process that takes most, and the plan in words."""
    from aipo_lab.training.config import ParallelSettings, TrainSettings
    from aipo_lab.training.device_memory import find_model
    from aipo_lab.training.memory_plan import plan_training

    train, compute = MODES[mode]
    settings, parallel = TrainSettings(**COMMON, **train), ParallelSettings(**compute)
    model = find_model(str(folder), folder)
    assert model is not None
    plan = plan_training(model, settings, parallel, device="cpu")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(parallel.processes)]
    launcher = torchrun if parallel.processes > 1 else []
    command = [sys.executable, *launcher, __file__, "--child", mode, "--folder", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    made = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    grown = [float(line.split()[1]) for line in made.splitlines() if line.startswith("grown_gib ")]
    return max(grown), plan.gib, str(plan)


def measure(mode: str, folder: Path) -> None:
    """Train and print by how much this process grew."""
    import torch

    from aipo_lab.models.policy import load_policy
    from aipo_lab.objectives import get_objective
    from aipo_lab.training.config import ParallelSettings, TrainSettings
    from aipo_lab.training.fsdp import FsdpUpdater, load_sharded_policy
    from aipo_lab.training.loop import PairTrainer
    from aipo_lab.training.pairs import EncodedPair
    from aipo_lab.training.processes import Processes
    from aipo_lab.training.updates import ReplicatedUpdater

    torch.set_num_threads(1)
    train, compute = MODES[mode]
    settings, parallel = TrainSettings(**COMMON, **train), ParallelSettings(**compute)
    processes = Processes(int(os.environ.get("RANK", 0)), parallel.processes)
    if processes.count > 1:
        torch.distributed.init_process_group("gloo")
    warm_up(settings)
    generator = torch.Generator().manual_seed(0)

    def tokens(n: int) -> list[int]:
        return torch.randint(5, 8192, (n,), generator=generator).tolist()

    prompt, response = settings.max_prompt_tokens, settings.max_response_tokens
    pairs = [EncodedPair(str(i), tokens(prompt), tokens(response), tokens(response)) for i in range(N_PAIRS)]
    baseline = peak_gib(reset=True)
    sharded = parallel.parallel == "fsdp"
    if sharded:
        policy = load_sharded_policy(folder, "cpu", settings.weights, processes)
    else:
        policy = load_policy(folder, "cpu", settings.weights)
    updater = FsdpUpdater if sharded else ReplicatedUpdater
    reference = torch.zeros(len(pairs), 2)
    trainer = PairTrainer(policy, pairs, reference, get_objective("dpo"), settings, 0, processes, updater)
    trainer.run(lambda *_: None)
    print(f"grown_gib {peak_gib() - baseline:.4f}", flush=True)


def warm_up(settings: Any) -> None:
    """Train something tiny, so that code, libraries and their own tables are there before the baseline is taken."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from aipo_lab.models.policy import Policy
    from aipo_lab.objectives import get_objective
    from aipo_lab.training.loop import PairTrainer
    from aipo_lab.training.pairs import EncodedPair
    from aipo_lab.worlds.micro.tokenizer import build_tokenizer

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes)).eval().to(getattr(torch, settings.weights))
    pairs = [EncodedPair(str(i), [5, 6, 7], [8, 9], [10]) for i in range(8)]
    policy = Policy(model, build_tokenizer())
    PairTrainer(policy, pairs, torch.zeros(8, 2), get_objective("dpo"), settings, 0).run(lambda *_: None)


def peak_gib(reset: bool = False) -> float:
    """The highest resident memory of this process since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


if __name__ == "__main__":
    main()
