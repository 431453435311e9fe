"""What prompt sources that read the user's data share: the column, the filters, and their prompts one by one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import Field, field_validator

from aipo_lab.core.unicode import repaired
from aipo_lab.prompts.reading import DataPlace, DataRequest, read_rows
from aipo_lab.prompts.same import PromptSet
from aipo_lab.prompts.source import PromptSettings


class PromptFilters(PromptSettings):
    """Which prompts of a source are kept."""

    limit: int | None = Field(None, ge=1, description="prompts kept, the first that pass (none: all)")
    min_chars: int = Field(1, ge=1, description="shortest prompt kept, in characters")
    max_chars: int | None = Field(None, ge=1, description="longest prompt kept, in characters (none: any)")
    matching: str | None = Field(None, description="regular expression found in every prompt kept")
    not_matching: str | None = Field(None, description="regular expression found in none")

    @field_validator("matching", "not_matching")
    @classmethod
    def _is_an_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value

    def reason_to_drop(self, prompt: str) -> str | None:
        """Why a prompt is not kept, or None."""
        if not prompt:
            return "empty"
        if len(prompt) < self.min_chars:
            return "too_short"
        if self.max_chars is not None and len(prompt) > self.max_chars:
            return "too_long"
        if self.matching is not None and not re.search(self.matching, prompt):
            return "not_matching"
        if self.not_matching is not None and re.search(self.not_matching, prompt):
            return "excluded_by_pattern"
        return None


class OwnPromptSettings(PromptFilters):
    """Settings of a source that reads data: the column, and in subclasses where the data lie."""

    column: str = Field("prompt", min_length=1, description="column that holds the prompts")

    def place(self) -> DataPlace:
        """Where the data lie."""
        raise NotImplementedError

    def request(self) -> DataRequest:
        """The data that must be found before work starts."""
        return DataRequest(place=self.place(), columns=(self.column,), setting="prompts")


class OwnPrompts:
    """The prompts of a user's data. After `pool`, `counts` says how many rows were no prompts, by reason."""

    def __init__(self, settings: OwnPromptSettings) -> None:
        self._settings = settings
        self.counts: Counter[str] = Counter()

    def pool(self) -> Sequence[str]:
        """See `PromptSource.pool`; every text of the column."""
        return list(self.each())

    def each(self) -> Iterator[str]:
        """The texts one by one."""
        self.counts.clear()
        for row in read_rows(self._settings.place(), [self._settings.column], "prompts"):
            text, reason = prompt_text(row.get(self._settings.column))
            if reason:
                self.counts[reason] += 1
            else:
                yield text


def prompt_text(value: Any) -> tuple[str, str | None]:
    """The prompt that a cell holds (text, or a conversation of one user turn), and why it holds none."""
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        if len(value) != 1 or value[0].get("role") != "user":
            return "", "not_one_user_turn"
        value = value[0].get("content")
    if value is None:
        return "", "empty"
    return (repaired(value), None) if isinstance(value, str) else ("", "not_text")


def kept_prompts(
    prompts: Iterable[str], filters: PromptFilters, forbidden: PromptSet, counts: Counter[str]
) -> list[str]:
    """The prompts, stripped, that pass the filters and are new; `counts` gets the reasons of the others.

    Reading stops at the limit. `forbidden`: what benchmarks ask, counted as `benchmark_prompt`.
    """
    seen, kept = PromptSet(), list[str]()
    for prompt in map(str.strip, prompts):
        reason = filters.reason_to_drop(prompt)
        if reason is None and prompt in forbidden:
            reason = "benchmark_prompt"
        if reason is None and not seen.add(prompt):
            reason = "duplicate"
        counts[reason or "kept"] += 1
        if reason is None:
            kept.append(prompt)
            if len(kept) == filters.limit:
                break
    return kept
