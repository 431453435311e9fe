"""How many rows fit into memory: from the sizes of a model's keys and values and what the device has left."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.cache_utils import Cache

DEVICE_SHARE = 0.8
"""Of the free memory of an accelerator, which is this process's own; the rest is for activations."""
HOST_SHARE = 0.4
"""Of the free memory of a machine, on which other stages may run too."""
LOGIT_COPIES = 4
"""Rows of logits held while a token is drawn: as they come, in single precision, sorted, and one to spare."""


def bytes_per_token(computed: Cache) -> int:
    """Bytes of keys and values that one token takes in the layers of a computed prompt's cache."""
    return sum(
        states.shape[1] * states.shape[3] * states.element_size()
        for layer in computed.layers
        for states in (layer.keys, layer.values)
    )


def rows_that_fit(available: int, token_bytes: int, columns: int, vocabulary: int) -> int:
    """Rows of `columns` tokens whose keys, values and logits fit into `available` bytes; at least one."""
    row = token_bytes * columns + LOGIT_COPIES * vocabulary * torch.float32.itemsize
    return max(available // row, 1)


def available_bytes(device: torch.device) -> int:
    """Bytes that may be used for rows now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(DEVICE_SHARE * (free + unused))
    return int(HOST_SHARE * _host_bytes())


def _host_bytes() -> int:
    """Free memory of the machine, or what a container's limit leaves if that is less; 4 GiB where nothing tells."""
    found = [value for value in (_meminfo_bytes(), _cgroup_bytes()) if value is not None]
    return min(found, default=4 << 30)


def _meminfo_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _cgroup_bytes() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no control group, or no limit ("max")
        return None
    return max(limit - used, 0)
