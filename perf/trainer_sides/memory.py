"""The most memory that this process has held: of the GPU where it computes on one, else resident."""

from __future__ import annotations

import resource


def peak_gib(device: str) -> float:
    """GiB at the peak since the process began."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    import torch

    return torch.cuda.max_memory_allocated() / 2**30


def synchronise(device: str) -> None:
    """Wait until the GPU has done what it was told, so that a clock read now is right."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
