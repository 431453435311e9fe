"""Stage `slice_responses`: the given responses that one iteration ranks, as token ids.

Output `responses.jsonl` as of `respond`. Texts are tokenised here, once, by the rule of `aipo_lab.models.chat` with the
base model's tokenizer: ranking, pairs and training use these tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.models.chat import user_message
from aipo_lab.models.policy import load_tokenizer
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.policy_folder import policy_folder
from aipo_lab.stages.slice_pairs import SlicePairsConfig, TextEncoding, sliced_or_failed


@stage("slice_responses", version=1, config=SlicePairsConfig)
def slice_responses(context: StageContext[SlicePairsConfig]) -> Mapping[str, Any]:
    """Write `responses.jsonl`; the summary tells how many prompts and responses there are."""
    config = context.config
    rows = read_jsonl(context.inputs["pairs"].file("responses.jsonl"))
    chosen = sliced_or_failed(rows, config)
    encoding = TextEncoding(load_tokenizer(policy_folder(context)), config)
    made = []
    for done, row in enumerate(chosen, start=1):
        made.append(
            {
                "id": row["id"],
                "prompt": row["prompt"],
                "prompt_token_ids": encoding.prompt(user_message(row["prompt"])),
                "responses": [_response(text, encoding) for text in row["responses"]],
            }
        )
        context.progress(done, len(chosen), "prompts")
    write_jsonl(context.folder / "responses.jsonl", made)
    return {"prompts": len(made), "responses": sum(len(row["responses"]) for row in made)}


def _response(text: str, encoding: TextEncoding) -> dict[str, Any]:
    tokens = encoding.response(text)
    return {"text": text, "tokens": len(tokens), "token_ids": tokens, "finish_reason": "stop"}
