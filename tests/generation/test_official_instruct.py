"""Self-instruct by the official rules: order of the filters, capitals, cuts, and stop strings, defects included."""

from __future__ import annotations

import pytest

from aipo_lab.generation.official_instruct import OfficialFilter, official_prompt, official_stop_strings


def read(completion: str, minimum: int = 2, maximum: int = 20) -> tuple[list[str], dict[str, int]]:
    keeper = OfficialFilter(lambda text: len(text.split()), minimum, maximum)
    return keeper.read(completion), dict(keeper.counts)


def test_an_example_loses_final_colons_only() -> None:
    prompt = official_prompt(["  Write\n a  poem :: ", "Name a bird."])
    assert prompt == "Come up with a series of tasks:\n\n1. Write a poem \n2. Name a bird.\n3."


def test_generation_stops_at_the_number_after_the_wanted_ones_wherever_it_stands() -> None:
    assert official_stop_strings(8, 1) == ["\n\n", "\n10", "10.", "10 ."]


@pytest.mark.parametrize(
    ("completion", "kept"),
    [
        (" write a Python script for USA", ["Write a python script for usa"]),
        (" Name a bird.\n10. Name a fish.\n11 . Name a cow.", ["Name a bird.", "Name a fish.", "Name a cow."]),
        (" Name a bird.\n10.Name a fish.", ["Name a bird. 10.name a fish."]),  # no space: no new piece
        (" Sort the data: 1,2", ["Sort the dat"]),
        (" Sort the data: 1,2. Example: 2,1", ["Sort the data: 1,2. example: 2,1"]),
        (" Add one and two. Output: three. Answer: 3", ["Add one and two."]),
        (" Output: three is the number", [""]),  # cut to nothing, after its length was counted
        (" Say something\n  about   birds", ["Say something about birds"]),
        ("", []),
    ],
)
def test_what_is_kept_of_a_completion(completion: str, kept: list[str]) -> None:
    assert read(completion)[0] == kept


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Name", "too_short"),
        ("Name " * 21, "too_long"),
        ("Describe the IMAGE below", "excluded_word"),
        ("Please go to the market", "excluded_word"),
        ("Describe the imagery below", "kept"),
        ("Write a program that sings", "excluded_start"),
        ("write a Program that sings", "excluded_start"),
        ("(sing a song)", "excluded_start"),
        ("étudiez un oiseau", "excluded_start"),
        ("Task definition: sing a song", "excluded_start"),
        ("detailed instructions: sing", "excluded_start"),
        ("2 birds are singing", "kept"),
        ("What is plasma: a gas", "kept_cut"),
        ("Task definition: image", "excluded_word"),  # by the first filter in order
        (" ", "empty"),
    ],
)
def test_each_filter_in_its_place(text: str, reason: str) -> None:
    assert read(text)[1] == {reason: 1}


def test_repeats_are_kept() -> None:
    assert read(" Name a bird.\n10. Name a bird.")[0] == ["Name a bird."] * 2
