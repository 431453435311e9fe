"""The rules of cleaning, each with texts it must drop and texts it must let pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.curation.cleaning import is_refusal, is_unfinished, leaks_template, repeated_share, script_share

ANSWER = "The capital of France is Paris. It lies on the Seine, and about two million people live there."


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I cannot do this",  # a curly apostrophe
        "i'm  sorry,\n but I won't",
        "Unfortunately, as an AI language model I have no opinions.",
        "I APOLOGIZE, BUT I must not",
        "I cannot provide that.",
    ],
)
def test_refusals_are_recognised_however_they_are_typed(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        "Sorry for the delay! The answer is 4.",
        "The word 'refuse' means to decline.",
        "x " * 300 + "I'm sorry, but I cannot",  # far from the beginning it may be part of a story
        "",
        "I can help with that.",
    ],
)
def test_answers_are_no_refusals(text: str) -> None:
    assert not is_refusal(text)


def test_phrases_may_be_added() -> None:
    assert is_refusal("Das kann ich leider nicht tun", ["Das kann ich  leider nicht"])
    assert not is_refusal("Das kann ich leider nicht tun")


@pytest.mark.parametrize(
    "text",
    [
        "go on and on and " * 20,
        "ha" * 200,
        "same line of text here\n" * 10,
        "我们去北京。" * 12,
        "a, b, c, d, " * 15,
    ],
)
def test_repetition_is_high_in_texts_that_loop(text: str) -> None:
    assert repeated_share(text, 4) > 0.5


@pytest.mark.parametrize("text", [ANSWER, "Paris", "", "!!!", "The cat sat. The dog sat. A bird sang."])
def test_repetition_is_low_in_answers(text: str) -> None:
    assert repeated_share(text, 4) < 0.2


@given(st.text(max_size=80), st.integers(1, 6))
def test_repetition_is_a_share(text: str, n: int) -> None:
    assert 0 <= repeated_share(text, n) < 1


def test_scripts_are_shares_of_letters() -> None:
    assert script_share(ANSWER, ["LATIN"]) == 1
    assert script_share("Привет, как дела?", ["LATIN"]) == 0
    assert script_share("Привет hello!", ["CYRILLIC"]) == pytest.approx(6 / 11)
    assert script_share("こんにちは世界", ["HIRAGANA", "CJK"]) == 1
    assert script_share("ﬁne Ｗｉｄｅ é ñ ß", ["LATIN"]) == 1  # ligatures and wide letters are Latin letters
    assert script_share("1 + 1 = 2 :-) 😀", ["GREEK"]) == 1  # no letters at all say nothing about the language


@pytest.mark.parametrize(
    "text",
    [
        "Paris.<|im_end|>",
        "Paris.</s>",
        "<|reserved_special_token_5|> yes",
        "<｜User｜>more",  # DeepSeek's wide bars
        "Paris. [/INST] and [INST] next",
        "Paris.\nUser: and Rome?",
        "Paris.\n\nassistant\n\nRome.",  # what is left of a template without its special tokens
        "### Response: Paris",
        "Assistant: Paris",
    ],
)
def test_templates_are_found_in_texts(text: str) -> None:
    assert leaks_template(text)


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        "a < b | c > d",
        "The user: a person.",
        "Users:\n- one",
        "System design is hard.",
        "x<|y",
        "[INSTALL]",
        "",
    ],
)
def test_answers_leak_no_template(text: str) -> None:
    assert not leaks_template(text)


def test_the_tokenizers_own_special_tokens_count_unless_they_are_words() -> None:
    assert leaks_template("well [PAD] then", ["[PAD]"])
    assert not leaks_template("well then", ["well", "a", " ", ""])


@pytest.mark.parametrize("text", ["First, second,", "as follows:\n", "and (", "```python\nx = 1", "wait...", "well…"])
def test_texts_that_break_off_are_unfinished(text: str) -> None:
    assert is_unfinished(text)


@pytest.mark.parametrize("text", [ANSWER, "Paris", "42", "Wow!", "```\nx = 1\n```", "", "“Yes”"])
def test_whole_texts_are_finished(text: str) -> None:
    assert not is_unfinished(text)
