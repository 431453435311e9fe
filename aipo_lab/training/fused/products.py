"""Products with weights, by whichever library multiplies float32 matrices faster on this processor.

torch sends them to MKL, which runs AVX2 code on AMD's processors; oneDNN, which torch carries too, uses AVX-512 there
(Zen 4, two cores: 185-200 GFLOP/s against 145-170). The choice follows from the processor alone, never from a
measurement, so that a training that is started again ends with the same bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def product(x: Tensor, weight: Tensor) -> Tensor:
    """(..., d) inputs times a weight (h, d) -> (..., h), without gradient; the weight may be a transposed view."""
    if x.device.type == "cpu" and x.dtype == torch.float32 == weight.dtype and x.numel() and onednn_is_faster():
        rows = x.reshape(-1, x.shape[-1])
        made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")
        return made.view(*x.shape[:-1], len(weight))
    return functional.linear(x, weight)


@cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512 and torch has oneDNN's product."""
    tell = getattr(torch.cpu, "get_capabilities", None)
    of_processor: dict[str, Any] = tell() if tell else {}
    has_product = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_product and "AMD" in of_processor.get("cpu_name", "") and bool(of_processor.get("avx512_f"))
