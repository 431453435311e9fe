"""The micro world: instructions read back strictly, exact quality, and prompts that never leak into the benchmark."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.core.errors import UserError
from aipo_lab.worlds.micro.demonstrations import DemonstrationConfig, draw_demonstration
from aipo_lab.worlds.micro.instructions import (
    TEMPLATES,
    Request,
    parse_instruction,
    split_requests,
    write_instruction,
)
from aipo_lab.worlds.micro.knowledge import ATTRIBUTES, ENTITIES, VALUES, draw_knowledge
from aipo_lab.worlds.micro.responses import FILLERS, fact_sentence
from aipo_lab.worlds.micro.world import MicroWorld
from aipo_lab.worlds.world import get_world

WORLD = MicroWorld(0)

requests = st.builds(
    Request,
    st.sampled_from(ENTITIES),
    st.lists(st.sampled_from(ATTRIBUTES), min_size=1, max_size=4, unique=True).map(tuple),
)
templates = st.sampled_from(TEMPLATES)
any_fact = st.builds(
    fact_sentence,
    st.sampled_from(ENTITIES),
    st.sampled_from(ATTRIBUTES),
    st.sampled_from([value for values in VALUES.values() for value in values]),
)
sentences = st.lists(any_fact | st.sampled_from(FILLERS), max_size=12)


def right(entity: str, attribute: str) -> str:
    return fact_sentence(entity, attribute, WORLD.knowledge.value(entity, attribute))


def wrong(entity: str, attribute: str) -> str:
    return fact_sentence(entity, attribute, WORLD.knowledge.wrong_values(entity, attribute)[0])


# ---- instructions


@given(requests, templates)
def test_every_instruction_reads_back(request: Request, template: str) -> None:
    assert parse_instruction(write_instruction(request, template)) == request


@pytest.mark.parametrize(
    "text",
    [
        "Tell me the color of the fox.",
        "What is the mood of the owl?",
        "What are the color, food and home of the bear?",
        "Can you name the size, mood, sound and color of the swan?",
    ],
)
def test_well_formed_instructions_are_accepted(text: str) -> None:
    assert WORLD.is_instruction(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Tell me the color of the fox",
        " Tell me the color of the fox.",
        "Tell me the color of the fox.\n",
        "tell me the color of the fox.",
        "Tell me the color of the dragon.",
        "Tell me the price of the fox.",
        "Tell me the color and color of the fox.",
        "Tell me the color, food and color of the fox.",
        "Tell me the color, food of the fox.",
        "Tell me the color and food and home of the fox.",
        "Tell me the color, and food of the fox.",
        "Tell me the color, food, home, size and mood of the fox.",
        "Tell me the  of the fox.",
        "Tell me the color of the fox. Tell me the food of the fox.",
        "What are the color of the fox?",
        "What is the color and food of the fox?",
        "What is the color of the fox.",
    ],
)
def test_malformed_instructions_are_refused(text: str) -> None:
    assert not WORLD.is_instruction(text)
    with pytest.raises(UserError, match="not an instruction"):
        WORLD.quality(text, "anything")


@given(st.text(max_size=80))
def test_parsing_arbitrary_text_never_fails(text: str) -> None:
    assert parse_instruction(text) is None


# ---- quality


def test_quality_of_hand_made_answers() -> None:
    prompt = "Tell me the color and food of the fox."
    color, food = right("fox", "color"), right("fox", "food")
    wrong_color, wrong_food = wrong("fox", "color"), wrong("fox", "food")
    cases = {
        "": 0.0,
        f"{color} {food}": 1.0,
        f"{food} {color}": 1.0,
        color: 0.5,
        f"{color} {color} {color}": 0.5,
        f"{color} {wrong_color}": -0.25,
        f"{wrong_color} {color}": -0.25,
        f"{wrong_color} {wrong_color}": -0.25,
        f"{color} {wrong_food}": 0.25,
        f"{wrong_color} {wrong_food}": -0.5,
        f"{color} {food.removesuffix('.')}": 0.5,
        f"{color} {food[:-3]}": 0.5,
        f"{color} {right('fox', 'mood')}": 0.5,
        f"{color} {wrong('fox', 'mood')}": 0.5,
        f"{color} {right('bear', 'food')}": 0.5,
        f"{color}\n{food}": 1.0,
        f"{color}{food}": 1.0,
        "The color of the fox is unheard.": -0.25,
        "The color of the fox is.": 0.0,
    }
    for response, expected in cases.items():
        assert WORLD.quality(prompt, response) == pytest.approx(expected), response


@given(requests, templates, sentences)
def test_quality_is_bounded_and_needs_the_facts_for_one(request: Request, template: str, parts: list[str]) -> None:
    prompt = write_instruction(request, template)
    quality = WORLD.quality(prompt, " ".join(parts))
    assert -0.5 <= quality <= 1.0
    if quality == 1.0:
        assert {right(request.entity, name) for name in request.attributes} <= set(parts)


@given(requests, templates, st.lists(st.sampled_from(FILLERS), max_size=6), st.randoms())
def test_filler_and_order_do_not_change_quality(
    request: Request, template: str, fillers: list[str], rng: random.Random
) -> None:
    prompt = write_instruction(request, template)
    parts = [right(request.entity, name) for name in request.attributes]
    assert WORLD.quality(prompt, " ".join(parts)) == 1.0
    parts += fillers
    rng.shuffle(parts)
    assert WORLD.quality(prompt, " ".join(parts)) == 1.0


@given(requests, templates, sentences, st.data())
def test_repeating_a_sentence_never_changes_quality(
    request: Request, template: str, parts: list[str], data: st.DataObject
) -> None:
    prompt = write_instruction(request, template)
    if parts:
        repeated = [*parts, data.draw(st.sampled_from(parts))]
        assert WORLD.quality(prompt, " ".join(repeated)) == WORLD.quality(prompt, " ".join(parts))


@given(requests, templates, st.text(max_size=200))
def test_arbitrary_text_has_quality_zero(request: Request, template: str, text: str) -> None:
    assert WORLD.quality(write_instruction(request, template), text) == 0.0


# ---- prompts


@pytest.mark.parametrize("seed", [0, 7])
def test_pool_and_benchmark_are_large_distinct_and_disjoint(seed: int) -> None:
    world = MicroWorld(seed)
    pool, benchmark = world.pool(), world.benchmark_prompts()
    assert len(pool) >= 1500
    assert len(benchmark) >= 400
    assert len(set(pool)) == len(pool)
    assert len(set(benchmark)) == len(benchmark)
    assert all(world.is_instruction(prompt) for prompt in pool + benchmark)
    assert not _combinations(pool) & _combinations(benchmark)
    assert {len(attributes) for _, attributes in _combinations(benchmark)} == {1, 2, 3, 4}


def _combinations(prompts: list[str]) -> set[tuple[str, frozenset[str]]]:
    parsed = [parse_instruction(prompt) for prompt in prompts]
    return {(request.entity, frozenset(request.attributes)) for request in parsed if request is not None}


def test_prompts_are_deterministic_and_prefixes_agree() -> None:
    assert MicroWorld(3).pool() == MicroWorld(3).pool()
    assert MicroWorld(3).pool(50) == MicroWorld(3).pool()[:50]
    assert MicroWorld(3).benchmark_prompts(50) == MicroWorld(3).benchmark_prompts()[:50]
    assert MicroWorld(3).pool(50) != MicroWorld(4).pool(50)


def test_asking_for_more_prompts_than_there_are_is_an_error() -> None:
    with pytest.raises(UserError, match="2049 prompts"):
        WORLD.pool(2049)
    with pytest.raises(UserError, match="-1 prompts"):
        WORLD.benchmark_prompts(-1)


def test_every_combination_is_on_one_side_of_the_split() -> None:
    pool, held_out = split_requests(0)
    sizes = [(len(a), len(b)) for a, b in zip(pool, held_out, strict=True)]
    assert sizes == [(96, 24), (240, 60), (320, 80), (240, 60)]


# ---- knowledge and demonstrations


def test_knowledge_depends_on_the_seed_only() -> None:
    assert draw_knowledge(5) == draw_knowledge(5)
    assert draw_knowledge(5) != draw_knowledge(6)
    facts = draw_knowledge(5).facts
    assert set(facts) == set(ENTITIES)
    assert all(facts[e][a] in VALUES[a] for e in ENTITIES for a in ATTRIBUTES)


def test_values_are_never_shared_between_attributes() -> None:
    values = [value for group in VALUES.values() for value in group]
    assert len(set(values)) == len(values) == 36


def test_demonstrations_have_the_stated_imperfection() -> None:
    rng = random.Random(0)
    request = Request("fox", ("color", "food", "home"))
    prompt = write_instruction(request, TEMPLATES[0])
    config = DemonstrationConfig(fact_probability=0.7, wrong_probability=0.2, unrequested_probability=0.0)
    texts = [draw_demonstration(rng, WORLD.knowledge, request, config) for _ in range(3000)]
    stated = sum(f"The {name} of the fox" in text for text in texts for name in request.attributes) / 9000
    quality = sum(WORLD.quality(prompt, text) for text in texts) / len(texts)
    fillers = sum(text.count(filler) for text in texts for filler in FILLERS) / 9000
    assert stated == pytest.approx(0.7, abs=0.02)
    assert quality == pytest.approx(0.7 * 0.8 - 0.5 * 0.7 * 0.2, abs=0.02)
    assert fillers == pytest.approx(0.22 / 0.78, abs=0.02)
    assert all(texts)


def test_perfect_demonstrations_are_perfect_answers() -> None:
    perfect = DemonstrationConfig(fact_probability=1.0, wrong_probability=0.0)
    for prompt in WORLD.pool(200):
        request = parse_instruction(prompt)
        assert request is not None
        response = draw_demonstration(random.Random(prompt), WORLD.knowledge, request, perfect)
        assert WORLD.quality(prompt, response) == 1.0


# ---- the package


def test_the_world_is_reached_by_name() -> None:
    world = get_world("micro", 2)
    assert isinstance(world, MicroWorld)
    assert world.name == "micro"
    assert world.knowledge == MicroWorld(2).knowledge


def test_importing_the_world_needs_no_heavy_package() -> None:
    code = (
        "import sys, aipo_lab.worlds.micro, aipo_lab.worlds.micro.base_model;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'tokenizers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
