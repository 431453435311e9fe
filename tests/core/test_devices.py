"""Which GPUs are found: by the driver's tool (a stand-in for it on the PATH), and what CUDA_VISIBLE_DEVICES leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aipo_lab.core import devices
from aipo_lab.core.devices import Device, environment_of, find_devices, visible_names

TABLE = """\
0, GPU-aaaa1111, NVIDIA H100 80GB HBM3, 81559
1, GPU-bbbb2222, NVIDIA H100 80GB HBM3, 81559
2, GPU-cccc3333, NVIDIA GB10, [N/A]
"""
GIB = 81559 / 1024
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts an nvidia-smi on the PATH that runs a line of shell."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)

    def install(line: str) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{line}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        devices._all_devices.cache_clear()

    (tmp_path / "table").write_text(TABLE)
    install(f"cat {tmp_path / 'table'}")
    yield install
    devices._all_devices.cache_clear()


@pytest.mark.usefixtures("driver")
def test_the_drivers_tool_is_asked() -> None:
    assert find_devices() == (Device("0", H100, GIB), Device("1", H100, GIB), Device("2", "NVIDIA GB10", None))
    assert [str(one) for one in find_devices()] == [f"0 ({H100}, 80 GiB)", f"1 ({H100}, 80 GiB)", "2 (NVIDIA GB10)"]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("shown", "names"),
    [
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("2,0", ["2", "0"]),
        ("1, 0", ["1", "0"]),
        ("GPU-bbbb,0", ["GPU-bbbb", "0"]),
        ("0,7,1", ["0"]),  # CUDA shows nothing from the first unknown one on
        ("0,-1,1", ["0"]),
        ("MIG-1234/5/0", ["MIG-1234/5/0"]),
    ],
)
def test_only_what_is_visible_is_there(shown: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert [device.name for device in find_devices()] == names
    if "GPU-bbbb" in names:
        assert find_devices()[0] == Device("GPU-bbbb", H100, GIB)


def test_a_tool_without_a_driver_finds_none(driver: Callable[[str], None]) -> None:
    driver("echo 'NVIDIA-SMI has failed, because it could not ask the driver'; exit 9")
    assert find_devices() == ()


@pytest.mark.usefixtures("driver")
def test_torch_is_not_asked_where_the_tool_is() -> None:
    code = "import sys; from aipo_lab.core.devices import find_devices as f; print(len(f()), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["3", "False"]


def test_a_process_sees_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert visible_names() is None
    told = environment_of(["1", "3"])
    assert told == {"CUDA_VISIBLE_DEVICES": "1,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # as the tool numbers them
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")  # the user's numbers, which keep the user's meaning
    assert environment_of([]) == {"CUDA_VISIBLE_DEVICES": ""}
    assert visible_names() == ("3", "1")
