"""Which pairs are left out, and in which order the reasons are looked for: the first that holds is counted.

Of a prompt: its length (official). Of a pair: the same text twice, no text, lengths (official, then the recipe's own),
truncation, an address in the chosen response, then the rules of `cleaning`: template, refusal, repetition, script, end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from aipo_lab.core.config import StrictModel, suggest
from aipo_lab.curation.candidates import Candidate
from aipo_lab.curation.cleaning import (
    SCRIPTS,
    is_refusal,
    is_unfinished,
    leaks_template,
    repeated_share,
    script_share,
)
from aipo_lab.curation.selection import PairOf

OFFICIAL_RAW_PROMPT_TOKENS = (3, 512)
OFFICIAL_PROMPT_TOKENS = 512
OFFICIAL_RESPONSE_TOKENS = 2016
"""Limits of the official AIPO pipeline: of a prompt before and with its template, and of a response without its end."""


class FilterSettings(StrictModel):
    """Filters beside those that are always there. All are off unless a recipe sets them."""

    official: bool = Field(
        False,
        description="the official pipeline's: prompts of 3 to 512 tokens, 512 with the template, responses of at most "
        "2016 tokens, no http:// or https:// in the chosen response",
    )
    drop_template_leakage: bool = Field(
        False, description="responses that hold special tokens or role markers of a chat template"
    )
    drop_refusals: bool = Field(False, description="responses that begin by declining (phrases of refusals.txt)")
    refusal_phrases: list[str] = Field([], description="more phrases with which a refusal begins, with drop_refusals")
    max_repetition: float | None = Field(
        None, ge=0, le=1, description="largest share of n-grams of words that occurred before in a response; none: any"
    )
    repetition_ngram_words: int = Field(4, ge=1, le=20, description="words of an n-gram, with max_repetition")
    scripts: list[str] = Field(
        [], description="scripts that responses are written in, by Unicode's names: [LATIN]; none: any"
    )
    min_script_share: float = Field(
        0.8, gt=0, le=1, description="least share of a response's letters in these scripts, with scripts"
    )
    drop_unfinished: bool = Field(
        False, description="responses that break off: after a comma and the like, or inside a block of code"
    )
    applies_to: Literal["chosen", "pair", "candidates"] = Field(
        "pair",
        description="whose text the rules but the official ones judge: a pair goes if its chosen response (chosen) or "
        "either (pair) fails; candidates: those that fail are taken out before selection",
    )

    @field_validator("scripts")
    @classmethod
    def _known_scripts(cls, values: list[str]) -> list[str]:
        unknown = [one for one in values if one not in SCRIPTS]
        if unknown:
            raise ValueError("; ".join(f"unknown script {one!r}; {suggest(one, list(SCRIPTS))}" for one in unknown))
        return values

    @field_validator("refusal_phrases")
    @classmethod
    def _no_empty_phrase(cls, values: list[str]) -> list[str]:
        if any(not one.strip() for one in values):
            raise ValueError("an empty phrase begins every response; remove it")
        return values

    @property
    def needs_tokenizer(self) -> bool:
        """Whether the policy's tokenizer has a part in it."""
        return self.official or self.drop_template_leakage


def text_problem(text: str, settings: FilterSettings, special_tokens: Sequence[str] = ()) -> str | None:
    """Why a response's text is unfit, in a word; None if it is fit or no rule is on."""
    return next(_text_problems(text, settings, special_tokens), None)


def _text_problems(text: str, settings: FilterSettings, special_tokens: Sequence[str]) -> Iterator[str]:
    if settings.drop_template_leakage and leaks_template(text, special_tokens):
        yield "template_leakage"
    if settings.drop_refusals and is_refusal(text, settings.refusal_phrases):
        yield "refusal"
    limit = settings.max_repetition
    if limit is not None and repeated_share(text, settings.repetition_ngram_words) > limit:
        yield "repetition"
    if settings.scripts and script_share(text, settings.scripts) < settings.min_script_share:
        yield "wrong_script"
    if settings.drop_unfinished and is_unfinished(text):
        yield "unfinished"


def prompt_problem(n_raw_tokens: int) -> str | None:
    """Why the official pipeline does not even generate for a prompt of so many tokens (without template)."""
    low, high = OFFICIAL_RAW_PROMPT_TOKENS
    return None if low <= n_raw_tokens <= high else "prompt_length"


def pair_problem(
    row: Mapping[str, Any],
    pair: PairOf,
    max_response_tokens: int,
    drop_truncated: bool,
    drop_urls: bool,
    settings: FilterSettings,
    special_tokens: Sequence[str] = (),
) -> str | None:
    """Why a pair of a ranked row is left out, in a word; None if it is kept."""
    if pair.chosen.text == pair.rejected.text:
        return "same_text"
    if not all(one.text.strip() for one in pair):
        return "empty_response"
    if settings.official and len(row.get("prompt_token_ids", ())) > OFFICIAL_PROMPT_TOKENS:
        return "prompt_too_long"
    if settings.official and max(map(_tokens_without_end, pair)) > OFFICIAL_RESPONSE_TOKENS:
        return "too_long"
    if max(one.tokens for one in pair) > max_response_tokens:
        return "too_long"
    if drop_truncated and any(one.finish_reason == "length" for one in pair):
        return "truncated"
    if (drop_urls or settings.official) and ("http://" in pair.chosen.text or "https://" in pair.chosen.text):
        return "url"
    judged = {"chosen": [pair.chosen], "pair": list(pair), "candidates": []}[settings.applies_to]
    return next(filter(None, (text_problem(one.text, settings, special_tokens) for one in judged)), None)


def _tokens_without_end(candidate: Candidate) -> int:
    """The official code counts the words alone; a response that ended has its end token among its tokens."""
    return candidate.tokens - (candidate.finish_reason == "stop")
