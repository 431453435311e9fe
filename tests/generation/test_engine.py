"""Sampling settings: what is new changes no dump, and so no key, until it is used."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from aipo_lab.generation.engine import SamplingConfig

FIRST = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 128}


@pytest.mark.parametrize("neutral", [{}, {"min_p": 0.0}, {"repetition_penalty": 1}, {"stop": []}], ids=str)
def test_a_setting_that_changes_nothing_is_in_no_dump(neutral: dict[str, Any]) -> None:
    sampling = SamplingConfig(**neutral)
    assert sampling.model_dump() == sampling.model_dump(mode="json") == FIRST


@pytest.mark.parametrize("used", [{"min_p": 0.1}, {"repetition_penalty": 1.2}, {"stop": ["\n\n"]}], ids=str)
def test_a_setting_that_is_used_comes_back_from_its_dump(used: dict[str, Any]) -> None:
    sampling = SamplingConfig(**used)
    assert sampling.model_dump() == FIRST | used
    assert SamplingConfig.model_validate(sampling.model_dump(mode="json")) == sampling


@pytest.mark.parametrize("wrong", [{"min_p": 1.1}, {"min_p": -0.1}, {"repetition_penalty": 0}, {"stop": [""]}], ids=str)
def test_what_is_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SamplingConfig(**wrong)
