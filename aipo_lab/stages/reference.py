"""Stage `reference`: log-probabilities of the pairs under the policy at the start of the iteration.

Output `reference.jsonl`: `id`, `chosen_logps`, `rejected_logps` (sums over response tokens in nats).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from aipo_lab.config import StrictModel
from aipo_lab.errors import StageFailed
from aipo_lab.jsonl import read_jsonl, write_jsonl
from aipo_lab.models import POLICIES, Policy
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.training.pairs import EncodedPair, encode_pairs
from aipo_lab.training.logprobs import all_pair_logps


class ReferenceConfig(StrictModel):
    """All that determines the reference besides the policy and the pairs."""

    max_prompt_tokens: int = Field(512, ge=1, description="as in the train section")
    max_response_tokens: int = Field(2048, ge=1, description="as in the train section")
    micro_batch_tokens: int = Field(8192, ge=1, description="as in the train section")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="as in the train section")


@stage("reference", version=1, config=ReferenceConfig)
def reference(context: StageContext[ReferenceConfig]) -> Mapping[str, Any]:
    """Write `reference.jsonl`."""
    config = context.config
    policy = POLICIES.get(context.inputs["policy"].file("model"), context.runtime.device, "float32")
    pairs, _ = load_pairs(context, policy, config.max_prompt_tokens, config.max_response_tokens)
    logps = all_pair_logps(
        policy.model, pairs, policy.pad_token_id, config.micro_batch_tokens, context.progress, config.precision
    )
    write_jsonl(
        context.folder / "reference.jsonl",
        (
            {"id": pair.id, "chosen_logps": chosen, "rejected_logps": rejected}
            for pair, (chosen, rejected) in zip(pairs, logps.tolist(), strict=True)
        ),
    )
    return {"pairs": len(pairs)}


def load_pairs(
    context: StageContext[Any], policy: Policy, max_prompt_tokens: int, max_response_tokens: int
) -> tuple[list[EncodedPair], dict[str, int]]:
    """The encoded pairs of the `pairs` input and the counts of those left out.

    Raises `StageFailed` if none is left.
    """
    rows = read_jsonl(context.inputs["pairs"].file("pairs.jsonl"))
    pairs, excluded = encode_pairs(rows, policy.tokenizer, max_prompt_tokens, max_response_tokens)
    if not pairs:
        raise StageFailed(f"none of {len(rows)} pairs is within the token limits: {dict(excluded)}")
    return pairs, dict(excluded)
