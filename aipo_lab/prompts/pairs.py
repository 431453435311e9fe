"""Existing preference pairs, to train on without generating: a recipe's `pairs` section, and its rows.

Any of TRL's preference formats (`aipo_lab.prompts.conversations`), read like prompts (`aipo_lab.prompts.reading`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from aipo_lab.core.config import StrictModel
from aipo_lab.prompts.conversations import NoPair, Pair, read_pair
from aipo_lab.prompts.reading import DataPlace, DataRequest
from aipo_lab.prompts.same import PromptSet

IMPLICIT_PROMPT = "where both responses begin with the prompt, set pairs.prompt_column to null"


class PairColumns(StrictModel):
    """How rows of preference pairs are read."""

    prompt_column: str | None = Field(
        "prompt", description="column of prompts; null: both responses begin with the prompt (TRL's implicit prompt)"
    )
    chosen_column: str = Field("chosen", description="column of the better responses")
    rejected_column: str = Field("rejected", description="column of the worse responses")
    chosen_score_column: str | None = Field(None, description="column of the better responses' scores, if any")
    rejected_score_column: str | None = Field(None, description="column of the worse responses' scores")
    text: Literal["chat", "raw"] = Field(
        "chat",
        description="texts that are no conversations. chat: the user's and the assistant's turn; raw: continued as "
        "they are, without the chat template",
    )
    limit: int | None = Field(None, ge=1, description="pairs kept, the first that are usable (none: all)")
    ranked_by: Literal["data", "ranker"] = Field(
        "data",
        exclude_if=lambda value: value == "data",
        description="data: chosen and rejected as the data have them; ranker: their responses are candidates, which "
        "the recipe's `rank` and `pair` make pairs of anew",
    )
    responses_column: str | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="with ranked_by ranker: column that holds a list of responses, instead of chosen and rejected",
    )

    def columns(self) -> tuple[str, ...]:
        """The columns read."""
        if self.responses_column is not None:
            return tuple(name for name in (self.prompt_column, self.responses_column) if name is not None)
        named = (
            self.prompt_column,
            self.chosen_column,
            self.rejected_column,
            self.chosen_score_column,
            self.rejected_score_column,
        )
        return tuple(dict.fromkeys(name for name in named if name is not None))


class PairsSettings(PairColumns):
    """Which existing pairs a recipe trains on, and which of them at which iteration."""

    source: Literal["file", "dataset", "world"] = Field(
        description="file: `path`; dataset: `dataset` of the hub, or its copy; world: what other writers answered to "
        "the prompts of the recipe's world, annotated"
    )
    path: str | None = Field(None, min_length=1, description="file or folder, sought from where the command runs")
    dataset: str | None = Field(None, min_length=1, description="dataset of the hub, owner/name")
    subset: str | None = Field(None, description="its configuration, where it has several")
    split: str = Field("train", min_length=1, description="its split")
    revision: str | None = Field(None, description="its commit, branch or tag (none: the newest, or what is cached)")
    slices: Literal["contiguous", "interleaved", "all"] = Field(
        "contiguous",
        description="what iteration t of T trains on. contiguous: the t-th part of T; interleaved: every T-th pair; "
        "all: all pairs at every iteration",
    )

    @model_validator(mode="after")
    def _complete(self) -> PairsSettings:
        if self.source == "file" and self.path is None:
            raise ValueError("source file needs path")
        if self.source == "file" and self.dataset is not None:
            raise ValueError("source file has no dataset; use source: dataset")
        if self.source == "dataset" and self.dataset is None and self.path is None:
            raise ValueError("source dataset needs dataset (owner/name), or path to a copy")
        if self.source == "world":
            self._check_world()
        if self.responses_column is not None and self.ranked_by == "data":
            raise ValueError(
                "responses_column: a list of responses says not which is better; set ranked_by: ranker, or drop it"
            )
        if self.responses_column is not None and self.prompt_column is None:
            raise ValueError("responses_column needs prompt_column: a list of responses does not begin with the prompt")
        if (self.chosen_score_column is None) != (self.rejected_score_column is None):
            raise ValueError("chosen_score_column and rejected_score_column go together; give both or none")
        return self

    def _check_world(self) -> None:
        own = {"source", "slices", "limit", "ranked_by"}
        fields = type(self).model_fields
        set_here = sorted(self.model_fields_set - own)
        others = [name for name in set_here if getattr(self, name) != fields[name].default]
        if others:
            raise ValueError(
                f"source world has columns and texts of its own; drop {', '.join(others)} (it takes "
                f"{', '.join(sorted(own))})"
            )

    def request(self) -> DataRequest | None:
        """The data that must be found before work starts; none for a world's own."""
        if self.source == "world":
            return None
        place = DataPlace(**self.model_dump(include=set(DataPlace.model_fields)))
        return DataRequest(place=place, columns=self.columns(), setting="pairs", hint=IMPLICIT_PROMPT)

    def reading(self) -> PairColumns:
        """How the rows are read, whatever the place and the iterations."""
        return PairColumns(**self.model_dump(include=set(PairColumns.model_fields)))


def usable_pairs(
    rows: Iterable[Mapping[str, Any]], settings: PairColumns, forbidden: PromptSet, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Rows of `pairs.jsonl` without token ids; `counts` gets how many rows were kept, and why the others were not.

    `forbidden`: what benchmarks ask. Reading stops at the limit.
    """
    seen = set[bytes]()
    for number, row in enumerate(rows):
        try:
            pair, scores = _pair(row, settings), _scores(row, settings)
            if any(one["content"] in forbidden for one in pair.prompt if one["role"] == "user"):
                raise NoPair("benchmark_prompt")
            if pair.digest() in seen:
                raise NoPair("duplicate")
        except NoPair as reason:
            counts[str(reason)] += 1
            continue
        seen.add(pair.digest())
        counts["kept"] += 1
        yield {
            "id": f"{number:06d}",
            "prompt": pair.prompt,
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
            **scores,
        }
        if counts["kept"] == settings.limit:
            return


def _pair(row: Mapping[str, Any], settings: PairColumns) -> Pair:
    prompt = None if settings.prompt_column is None else row.get(settings.prompt_column)
    if settings.prompt_column is not None and prompt is None:
        raise NoPair("empty_prompt")
    chosen, rejected = row.get(settings.chosen_column), row.get(settings.rejected_column)
    if chosen is None or rejected is None:
        raise NoPair("empty_response")
    return read_pair(prompt, chosen, rejected, settings.text == "raw")


def _scores(row: Mapping[str, Any], settings: PairColumns) -> dict[str, float]:
    """The scores of both responses, or nothing without columns; raises `NoPair` unless the chosen one's is higher."""
    if settings.chosen_score_column is None or settings.rejected_score_column is None:
        return {}
    chosen, rejected = _score(row[settings.chosen_score_column]), _score(row[settings.rejected_score_column])
    if chosen <= rejected:
        raise NoPair("score_not_higher")
    return {"chosen_score": chosen, "rejected_score": rejected}


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NoPair("no_score")
    return float(value)
