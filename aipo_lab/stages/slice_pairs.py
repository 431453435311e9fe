"""Stage `slice_pairs`: the given pairs that one iteration trains on, as token ids.

Output `pairs.jsonl` as of `pair`, without what generation alone knows. Texts are tokenised here, once, by the rule of
`aipo_lab.models.chat` with the base model's tokenizer: all later stages use these tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.curation.pair_statistics import pair_statistics
from aipo_lab.models.chat import encode_prompt, encode_response, encode_text_prompt, response_end_token
from aipo_lab.models.policy import load_tokenizer
from aipo_lab.models.template import ChatSettings
from aipo_lab.objectives import mean_win_rates
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.policy_folder import policy_folder


class SlicePairsConfig(StrictModel):
    """All that determines the slice besides the pairs and the tokenizer."""

    slices: Literal["contiguous", "interleaved", "all"] = Field(description="how the pairs are divided")
    part: int = Field(ge=0, description="which part: the iteration, or 0 where all are used")
    parts: int = Field(ge=1, description="how many parts there are: the iterations, or 1 where all are used")
    text: Literal["chat", "raw"] = Field(description="chat: by the chat template; raw: prompts as they are")
    chat: ChatSettings = Field(default_factory=ChatSettings, description="how conversations are rendered")


@stage("slice_pairs", version=1, config=SlicePairsConfig)
def slice_pairs(context: StageContext[SlicePairsConfig]) -> Mapping[str, Any]:
    """Write `pairs.jsonl`; the summary tells how many pairs there are of how many."""
    config = context.config
    rows = read_jsonl(context.inputs["pairs"].file("pairs.jsonl"))
    chosen = sliced_or_failed(rows, config)
    encoding = TextEncoding(load_tokenizer(policy_folder(context)), config)
    made = []
    for done, row in enumerate(chosen, start=1):
        made.append(_encoded(row, encoding))
        context.progress(done, len(chosen), "pairs")
    write_jsonl(context.folder / "pairs.jsonl", made)
    return {
        "pairs": len(made),
        "counts": {"kept": len(made), "other_iterations": len(rows) - len(made)},
        "statistics": pair_statistics(made).as_summary(),
    }


def sliced_or_failed(rows: Sequence[dict[str, Any]], config: SlicePairsConfig) -> list[dict[str, Any]]:
    """The rows of the part; raises `StageFailed` if there are none."""
    chosen = sliced(rows, config)
    if not chosen:
        raise StageFailed(
            f"{len(rows)} pairs are too few for {config.parts} iterations; lower iterations or set pairs.slices: all"
        )
    return chosen


def sliced(rows: Sequence[dict[str, Any]], config: SlicePairsConfig) -> list[dict[str, Any]]:
    """The rows of the part; parts are equal up to one row, and each row is in exactly one."""
    if config.slices == "interleaved":
        return list(rows[config.part :: config.parts])
    start, end = (len(rows) * number // config.parts for number in (config.part, config.part + 1))
    return list(rows[start:end])


class TextEncoding:
    """How texts of other origin become tokens under a stage's settings."""

    def __init__(self, tokenizer: Any, config: SlicePairsConfig) -> None:
        self._tokenizer, self._config = tokenizer, config
        self._raw = config.text == "raw"
        self._end_token_id = int(tokenizer.eos_token_id) if self._raw else response_end_token(tokenizer, config.chat)

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of a conversation up to the response, or of its last text where texts are continued raw."""
        if self._raw:
            return encode_text_prompt(self._tokenizer, messages[-1]["content"])
        return encode_prompt(self._tokenizer, messages, self._config.chat)

    def response(self, text: str) -> list[int]:
        """Token ids of a whole response with its end token."""
        return encode_response(self._tokenizer, text, True, self._config.chat, self._end_token_id)


def _encoded(row: dict[str, Any], encoding: TextEncoding) -> dict[str, Any]:
    made = row | {"prompt_token_ids": encoding.prompt(row["prompt"])}
    for role in ("chosen", "rejected"):
        tokens = encoding.response(row[role][0]["content"])
        made |= {f"{role}_token_ids": tokens, f"{role}_tokens": len(tokens), f"{role}_finish_reason": "stop"}
    if "chosen_score" in row:
        rates = mean_win_rates([row["chosen_score"], row["rejected_score"]])
        made |= {"chosen_win_rate": rates[0], "rejected_win_rate": rates[1]}
    return made
