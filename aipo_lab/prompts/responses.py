"""Existing responses to rank anew: rows of pairs, or of lists of responses, as candidates of the recipe's ranker.

A ranker is shown a question and its answers, so prompts of several turns are left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aipo_lab.core.unicode import repaired
from aipo_lab.prompts.conversations import NoPair, read_pair
from aipo_lab.prompts.pairs import PairColumns
from aipo_lab.prompts.same import PromptSet

TEXT_KEYS = ("response", "content", "text")
"""Where an object in a list of responses may hold its text: UltraFeedback's name for it, and two usual ones."""


def usable_responses(
    rows: Iterable[Mapping[str, Any]], settings: PairColumns, forbidden: PromptSet, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Rows `id`, `prompt` (a text) and `responses` (two texts or more); `counts` gets why the others are none.

    `forbidden`: what benchmarks ask. A prompt counts once, with the responses of its first row. Reading stops at the
    limit.
    """
    seen = PromptSet()
    for number, row in enumerate(rows):
        try:
            prompt, responses = _row(row, settings)
            if prompt in forbidden:
                raise NoPair("benchmark_prompt")
            if not seen.add(prompt):
                raise NoPair("duplicate")
        except NoPair as reason:
            counts[str(reason)] += 1
            continue
        counts["kept"] += 1
        yield {"id": f"{number:06d}", "prompt": prompt, "responses": responses}
        if counts["kept"] == settings.limit:
            return


def _row(row: Mapping[str, Any], settings: PairColumns) -> tuple[str, list[str]]:
    prompt = None if settings.prompt_column is None else row.get(settings.prompt_column)
    if settings.prompt_column is not None and prompt is None:
        raise NoPair("empty_prompt")
    if settings.responses_column is not None:
        return _prompt_text(prompt), _listed(row.get(settings.responses_column))
    chosen, rejected = row.get(settings.chosen_column), row.get(settings.rejected_column)
    if chosen is None or rejected is None:
        raise NoPair("empty_response")
    pair = read_pair(prompt, chosen, rejected, settings.text == "raw")
    if len(pair.prompt) != 1:
        raise NoPair("several_turns")
    return pair.question, [pair.chosen, pair.rejected]


def _prompt_text(value: Any) -> str:
    if isinstance(value, list):
        if len(value) != 1 or not isinstance(value[0], Mapping) or value[0].get("role") != "user":
            raise NoPair("several_turns")
        value = value[0].get("content")
    if not isinstance(value, str):
        raise NoPair("not_text")
    if not value.strip():
        raise NoPair("empty_prompt")
    return repaired(value).strip()


def _listed(value: Any) -> list[str]:
    """The texts of a list of responses, empty ones left out."""
    if not isinstance(value, list):
        raise NoPair("no_list_of_responses")
    texts = [text for text in map(_text, value) if text]
    if len(texts) < 2:
        raise NoPair("too_few_responses")
    if len(set(texts)) < 2:
        raise NoPair("same_text")
    return texts


def _text(value: Any) -> str:
    """The text of one response: itself, that of an object, or the last turn of a conversation."""
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, Mapping):
        value = next((value[key] for key in TEXT_KEYS if key in value), None)
    if not isinstance(value, str):
        raise NoPair("not_text")
    return repaired(value).strip()
