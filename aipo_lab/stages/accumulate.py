"""Stage `accumulate`: the pairs of all iterations so far, the oldest first, as one file.

Output `pairs.jsonl` (see stage `pair`). An id has its iteration in front, as every iteration counts its own from zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipo_lab.core.config import StrictModel
from aipo_lab.core.jsonl import iterate_jsonl, write_jsonl
from aipo_lab.stages.definition import StageContext, stage


class AccumulateConfig(StrictModel):
    """Nothing is to be chosen: the inputs say all."""


@stage("accumulate", version=1, config=AccumulateConfig)
def accumulate(context: StageContext[AccumulateConfig]) -> Mapping[str, Any]:
    """Write `pairs.jsonl` from the inputs `pairs_0`, `pairs_1`, …"""
    by_iteration = {}
    rows = []
    for t in range(len(context.inputs)):
        own = list(iterate_jsonl(context.inputs[f"pairs_{t}"].file("pairs.jsonl")))
        by_iteration[str(t)] = len(own)
        rows += [row | {"id": f"{t}-{row['id']}"} for row in own]
    write_jsonl(context.folder / "pairs.jsonl", rows)
    return {"pairs": len(rows), "by_iteration": by_iteration}
