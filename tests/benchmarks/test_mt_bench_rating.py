"""Ratings in judges' replies: the official rule against a scanner written without regular expressions, and fuzzing."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aipo_lab.benchmarks.mt_bench.rating import LARGEST_RATING, Unrated, rating_notes, rating_of

DIGITS = "0123456789"


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Rating: [[8]]", 8),
        ("[[7.5]] because", 7.5),
        ("[[10]]\n[[1]]", 10),
        ("First [3], finally [[6]]", 6),
        ("Rating: [4] as in [5]", 4),
        ("Rating: [[9.]]", 9.0),
        ("[[[2]]]", 2),
        ("[[0]] is kept", 0),
        ("[[100]] is kept", 100),
        ("[[05.5]]", 5.5),
        ("[[7/10]] or [6]", 6),
        ("[[-3]] then [[3]]", 3),
    ],
)
def test_the_first_bracketed_number_counts(reply: str, rating: float) -> None:
    found = rating_of(reply)
    assert found == rating
    assert type(found) is type(rating)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "no number in square brackets"),
        ("$ERROR$", "no number in square brackets"),
        ("Rating: 8", "no number in square brackets"),
        ("[[eight]] [[ 8 ]] [[8,9]] [[.5]]", "no number in square brackets"),
        ("[[05]] and then [[6]]", "[05] is not a number"),
        ("[[٥]]", "is not a number"),
        (f"[[{'9' * 5000}]]", "(5000 characters)"),
        (f"[[{'9' * 400}]]", "too large"),
        (f"[[{'9' * 400}.5]]", "too large"),
        ("[[1000001]]", "too large"),
    ],
)
def test_replies_without_a_rating_say_why(reply: str, reason: str) -> None:
    found = rating_of(reply)
    assert isinstance(found, Unrated)
    assert reason in found.reason
    assert len(found.reason) < 120


def scan(text: str, opening: str, closing: str) -> str | None:
    """The first `digits[.digits]` between the brackets, found character by character."""
    for start in range(len(text)):
        if not text.startswith(opening, start):
            continue
        at = number_start = start + len(opening)
        while at < len(text) and text[at] in DIGITS:
            at += 1
        if at == number_start:
            continue
        if at < len(text) and text[at] == ".":
            at += 1
            while at < len(text) and text[at] in DIGITS:
                at += 1
        if text.startswith(closing, at):
            return text[number_start:at]
    return None


@given(st.text("[]05.7 a", max_size=14))
@example("[[5][[7]]")
@example("[[5.]]")
@example("[5]]")
def test_it_equals_a_scanner(text: str) -> None:
    literal = scan(text, "[[", "]]") or scan(text, "[", "]")
    found = rating_of(text)
    leading_zero = literal is not None and "." not in literal and literal.startswith("0") and literal.strip("0") != ""
    if literal is None or leading_zero or float(literal) > LARGEST_RATING:
        assert isinstance(found, Unrated)
    else:
        assert found == float(literal)
        assert isinstance(found, float) == ("." in literal)


@given(st.one_of(st.text(), st.text("[]0123456789.٥²-e_ \n"), st.binary().map(lambda raw: raw.decode("latin-1"))))
def test_no_reply_breaks_it(reply: str) -> None:
    found = rating_of(reply)
    if isinstance(found, Unrated):
        assert found.reason
    else:
        assert math.isfinite(found)
        assert 0 <= found <= LARGEST_RATING


@given(st.text(st.characters(exclude_characters="[]")), st.integers(1, 10), st.text())
def test_a_rating_is_found_after_and_before_any_text(before: str, rating: int, after: str) -> None:
    assert rating_of(f"{before}[[{rating}]]{after}") == rating


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("<think>Maybe [[3]]? no.</think>\nRating: [[8]]", 8),
        ("<thinking>[[3]]</thinking>[[8]]<think>[[4]]</think>", 8),
        ("<THINK>\n[[3]]\n</THINK>\n\n[[8]]", 8),
        ("[THINK][[3]][/THINK][[8]]", 8),
        ("Perhaps [[3]], no.\n</think>\n\nRating: [[8]]", 8),
        ("Rating: [[8]]\n<think>or [[3]]", 8),
        ("The tag <think> is explained well. Rating: [[8]]", 8),
        ("**Rating: [[8.5]]**", 8.5),
    ],
)
def test_what_is_only_thought_is_no_rating(reply: str, rating: float) -> None:
    assert rating_of(reply) == rating


@pytest.mark.parametrize(
    "reply", ["<think>I would say [[3]]", " <thinking>\n[[3]]\n", "[[3]]</think>", "<think>[[3]]</think>"]
)
def test_a_reply_that_only_thinks_has_no_rating(reply: str) -> None:
    assert isinstance(rating_of(reply), Unrated)


@pytest.mark.parametrize("form", ["[[8/10]]", "[[ 8 ]]", "[[rating]]", "[[8,5]]"])
def test_other_forms_are_no_ratings_officially_and_are_named(form: str) -> None:
    found = rating_of(f"Rating: {form}")
    assert isinstance(found, Unrated)
    assert form in found.reason
    (note,) = rating_notes([f"Rating: {form}", "[[7]]"])
    assert note.startswith(f"1 replies hold no rating in FastChat's form, [[number]], but e.g. {form}; ")


def test_replies_that_rate_differently_are_counted() -> None:
    replies = ["[[7]] no, [[8]]", "[[7]] and again [[7.0]]", "<think>[[3]]</think>[[8]]", "[[1]] [[2]] [[3]]", "[[5]]"]
    assert [rating_of(reply) for reply in replies] == [7, 7, 8, 1, 5]
    assert rating_notes(replies) == ["2 replies hold several different ratings; the first one counts, as officially"]
    assert rating_notes(["[[5]]", "$ERROR$"]) == []
