"""How far policy and reference are apart before the first update, where nothing but rounding may tell them apart.

The start of a training is the reference itself, so s_theta - s_ref is 0 there. A reference that was computed in another
precision, in other micro-batches, on other hardware or for other tokens shows here, before it bends a whole training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipo_lab.training.processes import Processes

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = {"float32": 2e-5, "bfloat16": 1e-4, "float16": 1e-4}
"""The most that rounding explains, as a share of the mean |log pi(y_w|x)| + |log pi(y_l|x)|, by precision.

float32 adds up to slightly other numbers in other micro-batches. In 16 bits the same micro-batches are computed, which
on equal hardware gives equal numbers; other micro-batches differ by several times as much as this.
"""
SMALLEST_NATS = 1e-3
"""What rounding explains however short the responses."""


class ReferenceGap:
    """|s_theta - s_ref| in nats over the pairs of the first step."""

    def __init__(self) -> None:
        self.n_pairs = 0
        self.total = self.largest = 0.0

    def add(self, logps: Tensor, reference_logps: Tensor) -> None:
        """Add a micro-batch: (B, 2) log-probabilities of chosen and rejected."""
        differences = logps.detach().double() - reference_logps.double()
        gaps = (differences[:, 0] - differences[:, 1]).abs()
        self.n_pairs += len(gaps)
        self.total += float(gaps.sum())
        self.largest = max(self.largest, float(gaps.max()))

    def columns(self, processes: Processes, device: str) -> dict[str, float]:
        """The first row's columns `reference_gap_max` and `reference_gap_mean`, over all processes."""
        sums = processes.sum({"total": self.total, "pairs": float(self.n_pairs)}, device)
        (largest,) = processes.most([self.largest], device)
        return {"reference_gap_max": largest, "reference_gap_mean": sums["total"] / sums["pairs"]}


def gap_warning(first_row: dict[str, float], precision: str) -> str | None:
    """What a person is told about the first row of a curve; None if rounding explains its gap."""
    if "reference_gap_max" not in first_row:
        return None
    largest, mean = first_row["reference_gap_max"], first_row["reference_gap_mean"]
    size = abs(first_row["logps_chosen"]) + abs(first_row["logps_rejected"])
    explained = SMALLEST_NATS + ROUNDING[precision] * size
    if largest <= explained:
        return None
    return (
        f"before the first update s_theta - s_ref is up to {largest:.3g} nats ({mean:.3g} on average), where rounding "
        f"in {precision} explains {explained:.2g}: the reference was computed from other tokens, in another precision, "
        "in other micro-batches or on other hardware; compute it again on this machine, or set train.precision=float32"
    )
