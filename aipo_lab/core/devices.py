"""The GPUs of this machine, found without torch where the driver's own tool is there.

A device's name is what `CUDA_VISIBLE_DEVICES` calls it. Where that variable is set, only what it shows is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
_QUERY = ("--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
_QUERY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Device:
    """A device: its name, and its kind and memory in GiB where they are known."""

    name: str
    kind: str = ""
    memory_gib: float | None = None

    def __str__(self) -> str:
        """For a person."""
        memory = "" if self.memory_gib is None else f"{self.memory_gib:.0f} GiB"
        known = ", ".join(part for part in (self.kind, memory) if part)
        return f"{self.name} ({known})" if known else self.name


def find_devices() -> tuple[Device, ...]:
    """The CUDA devices that a process started now could use, in their order."""
    return _visible(_all_devices(), os.environ.get(VISIBLE))


def environment_of(names: Sequence[str]) -> dict[str, str]:
    """What a process is told so that it sees the devices `names` and no others; none: it sees none.

    The driver's tool numbers devices by their place on the bus, CUDA by speed unless it is told otherwise. Numbers that
    the user has set in `CUDA_VISIBLE_DEVICES` mean what they meant to the user.
    """
    order = {} if VISIBLE in os.environ or ORDER in os.environ else {ORDER: "PCI_BUS_ID"}
    return {VISIBLE: ",".join(names), **order}


def visible_names() -> tuple[str, ...] | None:
    """The devices that `CUDA_VISIBLE_DEVICES` shows this process; None where it is not set."""
    shown = os.environ.get(VISIBLE)
    return None if shown is None else _names(shown)


def _names(shown: str) -> tuple[str, ...]:
    """The names in a value of `CUDA_VISIBLE_DEVICES`, which ends with the first that is no device, as -1."""
    names: list[str] = []
    for name in shown.replace(" ", "").split(","):
        if not name or name.startswith("-"):
            break
        names.append(name)
    return tuple(names)


def _visible(devices: Sequence[tuple[str, Device]], shown: str | None) -> tuple[Device, ...]:
    """Those of the (uuid, device) that `shown` names by number or by the beginning of their UUID."""
    if shown is None:
        return tuple(device for _, device in devices)

    def find(name: str) -> Device | None:
        for uuid, device in devices:
            if name == device.name or (uuid and uuid.startswith(name)):
                return Device(name, device.kind, device.memory_gib)
        return Device(name) if name.startswith("MIG-") else None

    found: list[Device] = []
    for name in _names(shown):
        device = find(name)
        if device is None:  # CUDA, too, shows nothing from here on
            break
        found.append(device)
    return tuple(found)


@cache
def _all_devices() -> list[tuple[str, Device]]:
    """Every device of the machine with its UUID (empty where it is not known)."""
    tool = shutil.which("nvidia-smi")
    return _ask_torch() if tool is None else _ask_driver(tool)


def _ask_driver(tool: str) -> list[tuple[str, Device]]:
    """From nvidia-smi, which leaves `CUDA_VISIBLE_DEVICES` aside."""
    try:
        answer = subprocess.run(
            [tool, *_QUERY], capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):  # the tool is there, and no driver that it could ask
        return []
    found = []
    for line in filter(None, map(str.strip, answer.splitlines())):
        index, uuid, kind, mib = (part.strip() for part in line.split(","))
        found.append((uuid, Device(index, kind, float(mib) / 1024 if mib.replace(".", "").isdigit() else None)))
    return found


def _ask_torch() -> list[tuple[str, Device]]:
    """From torch, which knows makers without that tool; it sees only what `CUDA_VISIBLE_DEVICES` shows, by number."""
    import torch

    if not torch.cuda.is_available():
        return []
    names = visible_names() or tuple(str(number) for number in range(torch.cuda.device_count()))
    properties = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [
        ("", Device(name, one.name, one.total_memory / 2**30)) for name, one in zip(names, properties, strict=False)
    ]
