"""Arena-Hard verdicts: both versions' parsers against hand-made cases and a parser written otherwise, and fuzzing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.benchmarks.arena_hard.verdicts import V01, V2, Rules, distinct_labels, judged_game

LABEL_CHARACTERS = set("AB<>=")
JUDGMENT_LIKE = st.lists(
    st.sampled_from(
        ["[", "]", "[[", "]]", "A", "B", ">", "<", "=", "a", "b", "\n", " ", "[[A>B]]", "[B>>A]", "[[a=b]]"]
    )
).map("".join)
TEXTS = st.one_of(st.text(), JUDGMENT_LIKE, st.lists(st.one_of(st.text(), JUDGMENT_LIKE)).map("".join))


def labels_between(text: str, brackets: int) -> list[str]:
    """All labels in so many brackets, found by walking through the text."""
    found, at = [], 0
    while (start := text.find("[" * brackets, at)) >= 0:
        end = start + brackets
        while end < len(text) and text[end] in LABEL_CHARACTERS:
            end += 1
        label = text[start + brackets : end]
        complete = label and text.startswith("]" * brackets, end)
        if complete:
            found.append(label)
        at = end + brackets if complete else start + 1
    return found


@given(TEXTS)
def test_v01_takes_the_only_label_however_often_it_occurs(text: str) -> None:
    labels = set(labels_between(text, 2))
    assert V01.read_verdict(text) == (labels.pop() if len(labels) == 1 else None)


@given(TEXTS)
def test_v2_takes_the_last_label_of_the_first_pattern_that_occurs(text: str) -> None:
    labels = labels_between(text.upper(), 2) or labels_between(text.upper(), 1)
    assert V2.read_verdict(text) == (labels[-1] if labels else None)


@given(TEXTS, st.one_of(st.none(), st.text(), st.sampled_from(sorted(V2.labels))), st.sampled_from([V01, V2]))
def test_a_game_has_a_failure_unless_its_label_is_a_verdict(text: str, label: str | None, rules: Rules) -> None:
    game = judged_game(text, label, rules)
    assert (game.failure is None) == (label in rules.labels)
    assert (game.text, game.label) == (text, label)


@pytest.mark.parametrize(
    ("text", "v01", "v2"),
    [
        ("My final verdict is tie: [[A=B]].", "A=B", "A=B"),
        ("[[A>B]] … so my verdict is [[A>B]]", "A>B", "A>B"),
        ("[[A>B]] — no, on reflection: [[B>A]]", None, "B>A"),
        ("[[A>>B]]\nrather [[A>B]]", None, "A>B"),
        ("[[a>b]]", None, "A>B"),
        ("[A>>B]", None, "A>>B"),
        ("[[A>B]] and then only [B>A]", "A>B", "A>B"),
        ("[[[B>>A]]]", "B>>A", "B>>A"),
        ("[[A > B]]", None, None),
        ("[[A<B]]", "A<B", "A<B"),
        ("[[]]", None, None),
        ("", None, None),
    ],
)
def test_verdicts_by_hand(text: str, v01: str | None, v2: str | None) -> None:
    assert V01.read_verdict(text) == v01
    assert V2.read_verdict(text) == v2


@pytest.mark.parametrize(
    ("text", "label", "failure"),
    [
        ("", None, "no reply"),
        ("\nBoth are fine.", None, "no verdict label"),
        ("\n[[A>B]] [[B>A]]", None, "contradictory verdicts: A>B, B>A"),
        ("\n[[A<B]]", "A<B", "the verdict 'A<B' is none of A>>B, A>B, A=B, B>A, B>>A"),
    ],
)
def test_a_game_without_verdict_says_why(text: str, label: str | None, failure: str) -> None:
    assert judged_game(text, label, V01).failure == failure


def test_labels_keep_their_order() -> None:
    assert distinct_labels("[[B>A]] [[A>B]] [[B>A]]") == ["B>A", "A>B"]


def test_strong_preferences_weigh_three() -> None:
    assert V01.labels["A>>B"] == (1.0, 3)
    assert V01.labels["B>A"] == (0.0, 1)
    assert V2.labels["A<<B"] == V2.labels["B>>A"] == (0.0, 3)
    assert V2.labels["B=A"] == (0.5, 1)


@pytest.mark.parametrize("rules", [V01, V2])
def test_labels_that_are_only_thought_are_no_verdict(rules: Rules) -> None:
    assert rules.read_verdict("<think>[[B>A]]?</think> My final verdict: [[A>B]]") == "A>B"
    assert rules.read_verdict("it may be [[B>A]]</think> [[A>B]]") == "A>B"
    assert rules.read_verdict("<think>it may be [[B>A]]") is None
