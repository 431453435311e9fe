"""Stage `pair`: best against worst candidate of every prompt, then the filters.

Output `pairs.jsonl`: TRL's conversational preference format (`prompt`, `chosen`, `rejected` as message lists)
plus `id`, `prompt_token_ids` and, for both responses, `…_score`, `…_win_rate` (mean probability of beating the prompt's
candidates by the ranker's scores), `…_tokens`, `…_token_ids` and `…_finish_reason`. The token ids are there if the
ranked rows have them; training uses them and not the texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.models.chat import user_message
from aipo_lab.objectives import mean_win_rates
from aipo_lab.stages.definition import StageContext, stage


class PairSettings(StrictModel):
    """Which pairs are kept. Defaults are the official pipeline's rules."""

    max_response_tokens: int = Field(
        2048, ge=1, description="pairs with a response longer than this many tokens are dropped and counted"
    )
    drop_truncated: bool = Field(True, description="drop pairs in which a response ran into the generation cap")
    drop_urls: bool = Field(True, description="drop pairs whose chosen response contains http:// or https://")


@stage("pair", version=3, config=PairSettings)
def pair(context: StageContext[PairSettings]) -> Mapping[str, Any]:
    """Write `pairs.jsonl`; the summary counts the pairs kept and dropped, by reason."""
    counts: Counter[str] = Counter()
    pairs = []
    for row in read_jsonl(context.inputs["ranking"].file("ranking.jsonl")):
        made = best_against_worst(row)
        reason = _reason_to_drop(row, made, context.config)
        counts[reason or "kept"] += 1
        if reason is None:
            pairs.append(made)
    if not pairs:
        raise StageFailed(f"no pair was left: {dict(counts)}; loosen the `pair` section of the recipe")
    write_jsonl(context.folder / "pairs.jsonl", pairs)
    return {"pairs": len(pairs), "counts": dict(sorted(counts.items()))}


def best_against_worst(row: Mapping[str, Any]) -> dict[str, Any]:
    """The pair of a ranked row: minimum rank against maximum rank, lowest index on ties (official rule)."""
    ranks = row["ranks"]
    best, worst = ranks.index(min(ranks)), ranks.index(max(ranks))
    win_rates = mean_win_rates(row["scores"])
    made: dict[str, Any] = {"id": row["id"], "prompt": user_message(row["prompt"])}
    if "prompt_token_ids" in row:
        made["prompt_token_ids"] = row["prompt_token_ids"]
    for role, index in (("chosen", best), ("rejected", worst)):
        response = row["responses"][index]
        made[role] = [{"role": "assistant", "content": response["text"]}]
        made[f"{role}_score"] = row["scores"][index]
        made[f"{role}_win_rate"] = win_rates[index]
        made[f"{role}_tokens"] = response["tokens"]
        if "token_ids" in response:
            made[f"{role}_token_ids"] = response["token_ids"]
        made[f"{role}_finish_reason"] = response["finish_reason"]
    return made


def _reason_to_drop(row: Mapping[str, Any], made: Mapping[str, Any], settings: PairSettings) -> str | None:
    texts = [made[role][0]["content"] for role in ("chosen", "rejected")]
    if max(row["ranks"]) == min(row["ranks"]):
        return "all_tied"
    if texts[0] == texts[1]:
        return "same_text"
    if not all(text.strip() for text in texts):
        return "empty_response"
    if max(made["chosen_tokens"], made["rejected_tokens"]) > settings.max_response_tokens:
        return "too_long"
    if settings.drop_truncated and "length" in (made["chosen_finish_reason"], made["rejected_finish_reason"]):
        return "truncated"
    if settings.drop_urls and ("http://" in texts[0] or "https://" in texts[0]):
        return "url"
    return None
