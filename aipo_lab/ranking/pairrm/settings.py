"""What a recipe says about the `pairrm` ranker."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aipo_lab.ranking.ranker import RankerSettings


class PairRMSettings(RankerSettings):
    """The checkpoint, and how its comparisons are made."""

    ranker: Literal["pairrm"] = Field("pairrm", description="ranker: pairrm")
    model: str = Field(
        "llm-blender/PairRM",
        description="checkpoint in either published layout (PairRM, PairRM-hf): a folder or a hub id owner/name",
    )
    mode: Literal["full", "best_worst"] = Field(
        "full",
        description="full: every pair of candidates, both orders; best_worst: a tournament that finds the best and the "
        "worst with fewer comparisons (scores 1, -1, and 0 for all others)",
    )
    backend: Literal["native", "llm_blender"] = Field(
        "native", description="native: the lab's own, fast; llm_blender: the package of that name, at batch size 1"
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="data type of weights and products; llm-blender itself takes float16 on a GPU"
    )
    batch_tokens: int = Field(
        4096,
        ge=64,
        description="tokens of a batch of comparisons, padding included; a longer one is a batch of its own",
    )
    agreement_rows: int = Field(
        32, ge=1, description="best_worst: prompts whose full matrix is computed too, to state the agreement"
    )
