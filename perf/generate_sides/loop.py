"""A plain loop: `model.generate` batch by batch in the order of the prompts, `num_return_sequences` = n."""

from __future__ import annotations

import sys
from typing import Any

import torch
from common import run_side

from aipo_lab.models.policy import Policy


def generate(policy: Policy, job: dict[str, Any], prompts: list[list[int]]) -> list[list[int]]:
    per_batch = max(int(sys.argv[2]) // job["n"], 1)
    made: list[list[int]] = []
    torch.manual_seed(0)
    for start in range(0, len(prompts), per_batch):
        batch = prompts[start : start + per_batch]
        encoded = policy.tokenizer.pad({"input_ids": batch}, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            output = policy.model.generate(
                **encoded,
                do_sample=True,
                temperature=job["temperature"],
                top_k=0,
                num_return_sequences=job["n"],
                max_new_tokens=job["max_new_tokens"],
                pad_token_id=policy.pad_token_id,
                eos_token_id=sorted(policy.end_token_ids),
            )
        made += [_until_end(policy, row) for row in output[:, encoded["input_ids"].shape[1] :].tolist()]
    return made


def _until_end(policy: Policy, tokens: list[int]) -> list[int]:
    ends = [place for place, token in enumerate(tokens) if token in policy.end_token_ids]
    return tokens[: ends[0] + 1] if ends else tokens


run_side(generate)
