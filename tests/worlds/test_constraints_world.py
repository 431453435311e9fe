"""The constraints world: golden cases of every constraint, the grammar's edges, the prompt sets' promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.generation.self_instruct import InstructionFilter
from aipo_lab.worlds.constraints.composing import read_requests
from aipo_lab.worlds.constraints.grammar import parse_instruction
from aipo_lab.worlds.constraints.rules import RULES
from aipo_lab.worlds.constraints.text import repeats_itself, sentences_of, words_of
from aipo_lab.worlds.constraints.world import ConstraintsWorld
from aipo_lab.worlds.world import get_world

WORLD = ConstraintsWorld()
REQUEST = "Write a few sentences about winter."
POOL = WORLD.pool()
INSTRUCTIONS = st.sampled_from(POOL + WORLD.benchmark_prompts())

# constraint sentence, a response that meets it, a response that does not
GOLDEN = [
    ("Use the word 'moon'.", "The Moon is out.", "Moonlight is out."),
    ("Include the word \"moon\" in your answer.", "A moon.", "A sun."),
    ("Mention the word ‘moon’.", "A moon-moon, then the moon.", "A full-moon party."),
    ("Do not use the word 'the'.", "Winter is cold, then over.", "In the winter."),
    ("Avoid the word 'don't'.", "I do not.", "I don't."),
    ("Don't use the words 'cold' and 'ice'.", "Snow.", "Cold ice."),
    ("Write exactly two sentences.", "It snows. It is cold!", "It snows."),
    ("Write two sentences.", "1. It snows.\n2. It is cold.", "It snows. It is cold. It ends."),
    ("Write at most three sentences.", "Dr. Snow came.", "One. Two. Three. Four."),
    ("Use no more than 2 sentences.", "Title\nIt snows.", "Title\nIt snows. It melts."),
    ("Write at least two sentences.", "Why? 'Because.' She left.", "Because she left at 3.30 p.m."),
    ("Write more than one sentence.", "Snow. Ice.", "Snow and ice"),
    ("Use at most five words.", "Snow isn't well-known here, Anna.", "Snow is not well known here."),
    ("Use fewer than 5 words.", "one two three four", "one two three four five"),
    ("Use at least twenty words.", "a b c d e f g h i j k l m n o p q r s t", "a b c"),
    ("Use exactly three words.", "Snow is cold.", "Snow is very cold."),
    ("Start with the word 'Today'.", '"Today, it snows."', "It snows today"),
    ("Begin your answer with the word 'Today.'", "today is cold", "Todays are cold"),
    ("End with the word 'snow'.", "I like snow!", "I like snowing."),
    ("End with a question mark.", 'He asked: "Is it cold?"', "Is it cold? Yes."),
    ("Finish with a question.", "Is it cold? ", "Is it cold"),
    ("End with an exclamation mark.", "So cold!**", "So cold! Yes."),
    ("Do not use commas.", "Cold and dark.", "Cold, dark."),
    ("Ask a question.", "Is it? Yes.", "It is."),
    ("Use the words 'ice' and 'snow' and end with a question.", "Ice or snow?", "Ice, snow."),
]  # fmt: skip

NOT_INSTRUCTIONS = [
    "",
    "Write a few sentences about winter.",  # no constraint
    "Use the word 'moon'.",  # no request
    "Use the word 'moon'. Use the word 'sun'.",
    "Write a few sentences about winter using the word 'snow'. Use the word 'moon'.",
    "write a few sentences about winter. Use the word 'moon'.",
    "Write a few sentences about winter Use the word 'moon'.",
    "Winter. Use the word 'moon'.",
    f"{REQUEST} Use the word moon.",
    f"{REQUEST} Use the word 'moon' twice.",
    f"{REQUEST} Use the word 'moon' and start with a dash.",
    f"{REQUEST} Use the word 'moon'. Make it funny.",
    f"{REQUEST} Use the word 'moon'.\nUse the word 'sun'.",
    f"{REQUEST} Use the word 'moon'. Do not use the word 'moon'.",
    f"{REQUEST} Use the words 'moon' and 'moon'.",
    f"{REQUEST} Write exactly two sentences. Write at most one sentence.",
    f"{REQUEST} Write at least zero sentences.",
    f"{REQUEST} Write fewer than one sentence.",
    f"{REQUEST} Write exactly 99 sentences.",
    f"{REQUEST} Use at most many words.",
    f"{REQUEST} Use the words 'a', 'b', 'c', 'd' and 'e'.",
    f"{REQUEST} End with a question mark. End with the word 'moon'.",
]


@pytest.mark.parametrize(("constraint", "good", "bad"), GOLDEN)
def test_constraint_tells_good_from_bad(constraint: str, good: str, bad: str) -> None:
    prompt = f"{REQUEST} {constraint}"
    assert WORLD.is_instruction(prompt)
    assert WORLD.quality(prompt, good) == 1.0
    assert WORLD.quality(prompt, bad) < 1.0


def test_every_rule_has_a_golden_case() -> None:
    stripped = [constraint.rstrip(".!") for constraint, _, _ in GOLDEN]
    assert [r.name for r in RULES if not any(r.pattern.fullmatch(s) for s in stripped)] == []


@pytest.mark.parametrize("text", NOT_INSTRUCTIONS)
def test_malformed_text_is_no_instruction(text: str) -> None:
    assert not WORLD.is_instruction(text)


def test_quality_is_the_share_of_checks_met() -> None:
    constraints = "Use the words 'snow' and 'fire'. Write exactly one sentence. End with an exclamation mark."
    prompt = f"{REQUEST} {constraints}"
    assert WORLD.quality(prompt, "Snow melts near fire!") == 1.0
    assert WORLD.quality(prompt, "Snow melts near a stove!") == 0.75
    assert WORLD.quality(prompt, "Snow melts. It does.") == 0.25
    assert WORLD.quality(prompt, "") == 0.0


@pytest.mark.parametrize("response", ["", " \n", "...", "!?"])
def test_response_without_words_scores_zero(response: str) -> None:
    assert WORLD.quality(f"{REQUEST} Do not use commas.", response) == 0.0


def test_going_round_in_circles_halves_quality() -> None:
    prompt = f"{REQUEST} Use the word 'snow'."
    assert WORLD.quality(prompt, "I like the snow very much. " * 5) == 0.5
    assert WORLD.quality(prompt, "I like the snow very much. " * 2) == 1.0


def test_quality_of_a_non_instruction_is_a_programmer_mistake() -> None:
    with pytest.raises(AssertionError, match="not an instruction"):
        WORLD.quality("Tell me a joke.", "No.")


def test_prompt_sets_are_large_distinct_disjoint_and_wellformed() -> None:
    benchmark = WORLD.benchmark_prompts()
    assert len(POOL) >= 400
    assert len(benchmark) >= 128
    assert len(set(POOL + benchmark)) == len(POOL) + len(benchmark)
    assert all(map(WORLD.is_instruction, POOL + benchmark))
    assert not read_requests("pool").keys() & read_requests("benchmark").keys()


def test_first_prompts_differ_in_topic_and_the_seed_changes_nothing() -> None:
    requests = [parse_instruction(prompt).request for prompt in WORLD.benchmark_prompts(32)]  # type: ignore[union-attr]
    assert len(set(requests)) == 32
    assert get_world("constraints", 0).pool(50) == get_world("constraints", 7).pool(50) == POOL[:50]


def test_pool_passes_the_self_instruct_filter() -> None:
    kept = InstructionFilter(lambda text: len(text.split()), 4, 80, WORLD.is_instruction)
    assert [prompt for prompt in POOL + WORLD.benchmark_prompts() if not kept.keep(prompt)] == []


@given(INSTRUCTIONS, st.text(max_size=300))
def test_quality_is_a_share_whatever_the_response(prompt: str, response: str) -> None:
    assert 0.0 <= WORLD.quality(prompt, response) <= 1.0


@given(INSTRUCTIONS)
def test_an_answer_built_from_the_checks_is_better_than_none(prompt: str) -> None:
    assert WORLD.quality(prompt, "Winter.") >= WORLD.quality(prompt, "")


@given(st.text(max_size=200))
def test_any_text_can_be_asked_about(text: str) -> None:
    assert WORLD.is_instruction(text) in (True, False)


@given(INSTRUCTIONS, st.sampled_from(["’", "‘", '"']))
def test_quotation_marks_do_not_matter(prompt: str, mark: str) -> None:
    assert WORLD.is_instruction(prompt.replace("'", mark)) or "night's" in prompt


@given(st.lists(st.sampled_from(["It snows.", "Is it cold?", "Run!", "“Stop.”", "We met Mr. Hill at 3.30."])))
def test_sentences_are_counted_one_by_one(sentences: list[str]) -> None:
    assert len(sentences_of(" ".join(sentences))) == len(sentences)
    assert len(sentences_of("\n\n".join(sentences))) == len(sentences)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6), st.integers(10, 30))
def test_a_looped_phrase_repeats_itself(phrase: list[str], times: int) -> None:
    assert repeats_itself(" ".join(phrase * times)) == (len(words_of(" ".join(phrase * times))) >= 12)


def test_distinct_words_never_repeat() -> None:
    assert not repeats_itself(" ".join(f"word{i}" for i in range(200)))
