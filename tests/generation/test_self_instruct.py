"""Self-instruct: the official format, what is read off a completion, and filters that count what they drop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.generation.self_instruct import (
    EXCLUDED_WORDS,
    InstructionFilter,
    few_shot_prompt,
    split_instructions,
    stop_strings,
)
from aipo_lab.worlds.world import get_world


def make_filter(minimum: int = 2, maximum: int = 20, is_instruction=None, known=()) -> InstructionFilter:
    return InstructionFilter(lambda text: len(text.split()), minimum, maximum, is_instruction, known)


def test_the_prompt_is_header_numbered_examples_and_the_next_number() -> None:
    prompt = few_shot_prompt(["  Write\n a  poem: ", "Name a bird."])
    assert prompt == "Come up with a series of tasks:\n\n1. Write a poem\n2. Name a bird.\n3."


def test_a_completion_stops_at_an_empty_line_or_after_the_wanted_number() -> None:
    assert stop_strings(8, 2) == ["\n\n", "\n11."]
    assert stop_strings(8, 1) == ["\n\n", "\n10."]


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (" Name a bird.\n10. Write about 10. or 11. birds.", ["Name a bird.", "Write about 10. or 11. birds."]),
        (" Name a bird.", ["Name a bird."]),
        (" Explain USA to NASA:\n10 . Second  one\nwith a line", ["Explain USA to NASA", "Second one with a line"]),
        ("", []),
        ("  \n ", []),
        ("\n10. Only the second", ["Only the second"]),
        (" One\n10. Two\n11. Three", ["One", "Two"]),
        (" Use the data: 1,2", ["Use the data: 1,2"]),
    ],
)
def test_instructions_are_read_off_a_completion(completion: str, expected: list[str]) -> None:
    assert split_instructions(completion, 2) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Name a bird", "kept"),
        ("Name", "too_short"),
        ("Name " * 21, "too_long"),
        ("Write a program that sings", "excluded_start"),
        ("Detailed instructions: sing", "excluded_start"),
        ("Task definition: sing a song", "excluded_start"),
        ("(sing a song)", "excluded_start"),
        ("Étudiez un oiseau", "excluded_start"),
        ("Describe the image below", "excluded_word"),
        ("Please GO TO the market", "excluded_word"),
        ("Describe the imagery below", "kept"),
        ("2 birds are singing", "kept"),
    ],
)
def test_each_filter_drops_what_it_should(text: str, reason: str) -> None:
    keeper = make_filter()
    assert keeper.keep(text) == (reason == "kept")
    assert keeper.counts == {reason: 1}


@pytest.mark.parametrize("word", EXCLUDED_WORDS)
def test_every_excluded_word_is_excluded_as_a_whole_word(word: str) -> None:
    assert not make_filter().keep(f"Please {word.upper()} it")
    assert make_filter().keep(f"Please x{word}x it now")


def test_an_instruction_is_kept_once_and_never_if_it_is_known() -> None:
    keeper = make_filter(known=["Name a fish"])
    assert [keeper.keep(text) for text in ("Name a bird", "Name a bird", "Name a fish")] == [True, False, False]
    assert keeper.counts == {"kept": 1, "duplicate": 2}


def test_what_the_world_does_not_understand_is_malformed() -> None:
    keeper = make_filter(is_instruction=get_world("micro").is_instruction)
    assert keeper.keep("What is the color of the fox?")
    assert not keeper.keep("What is the color of the dragon?")
    assert not keeper.keep("What are the color of the fox?")
    assert keeper.counts == {"kept": 1, "malformed": 2}


anything = st.text(max_size=60) | st.text(alphabet="19. \n:aT,", max_size=60)


@given(anything, st.integers(1, 5))
def test_splitting_any_text_gives_tidy_pieces(completion: str, wanted: int) -> None:
    pieces = split_instructions(completion, wanted)
    assert len(pieces) <= wanted
    for piece in pieces:
        assert piece
        assert piece == " ".join(piece.split())


@given(st.lists(anything, max_size=20), st.integers(1, 3))
def test_filtering_any_text_counts_every_piece_once(completions: list[str], minimum: int) -> None:
    keeper = make_filter(minimum, 10, get_world("micro").is_instruction)
    pieces = [piece for text in completions for piece in split_instructions(text, 5)]
    kept = [piece for piece in pieces if keeper.keep(piece)]
    assert keeper.counts.total() == len(pieces)
    assert keeper.counts["kept"] == len(kept) == len(set(kept))


@given(st.lists(st.text(alphabet="abc d", min_size=3, max_size=20), min_size=1, max_size=6))
def test_a_completion_that_goes_on_as_the_prompt_does_is_read_back(instructions: list[str]) -> None:
    tidy = [" ".join(text.split()) for text in instructions]
    completion = few_shot_prompt(instructions).split("1.", 1)[1]
    completion = completion.rpartition("\n")[0]
    assert split_instructions(completion, len(tidy)) == [text for text in tidy if text]
