"""Instructions made from hand-written requests: each gets constraints that suit it, always the same."""

from __future__ import annotations

import importlib.resources
import random
from collections.abc import Iterator, Mapping, Sequence

import yaml

START_WORDS = ("Today", "When", "Sometimes", "If", "Once", "Perhaps", "Every", "In")
AVOIDED_WORDS = ("the", "and", "is", "of", "it", "you")
SENTENCE_LIMITS = ("exactly two sentences", "exactly three sentences", "at most three sentences")
SHORT_WORD_LIMITS = ("at most 12", "at most 15", "at most 20", "at least 15")
LONG_WORD_LIMITS = ("at most 25", "at most 30", "at least 20", "at least 30")
KIND_WEIGHTS = {
    "use": 8,
    "use_two": 4,
    "start": 4,
    "length": 6,
    "ending": 2,
    "avoid": 2,
    "commas": 1,
    "question": 1,
}
N_CONSTRAINTS = (1, 2, 2, 2, 3, 3)


def read_requests(part: str) -> dict[str, list[str]]:
    """The hand-written requests of `part` (`pool` or `benchmark`), each with words that suit its topic."""
    source = importlib.resources.files(__package__) / "requests.yaml"
    parts: dict[str, dict[str, list[str]]] = yaml.safe_load(source.read_text(encoding="utf-8"))
    return parts[part]


def compose_all(requests: Mapping[str, Sequence[str]], n_variants: int) -> list[str]:
    """`n_variants` distinct instructions per request, ordered so that the first few differ in topic."""
    instructions: dict[str, None] = {}
    order = list(requests)
    for variant in range(n_variants):
        random.Random(f"order {variant}").shuffle(order)
        for request in order:
            draws = _compose_endlessly(request, requests[request], random.Random(f"{request} {variant}"))
            instructions[next(draw for draw in draws if draw not in instructions)] = None
    return list(instructions)


def _compose_endlessly(request: str, words: Sequence[str], rng: random.Random) -> Iterator[str]:
    while True:
        yield _compose(request, words, rng)


def _compose(request: str, words: Sequence[str], rng: random.Random) -> str:
    kinds = _draw_kinds(rng, rng.choice(N_CONSTRAINTS))
    return " ".join([request, *(_say(kind, request, words, rng) for kind in kinds)])


def _draw_kinds(rng: random.Random, n: int) -> list[str]:
    """`n` kinds that can stand together, in the fixed order of `KIND_WEIGHTS`, which reads naturally."""
    kinds: set[str] = set()
    while len(kinds) < n:
        kind = rng.choices(list(KIND_WEIGHTS), weights=list(KIND_WEIGHTS.values()))[0]
        if not {kind, *kinds} >= {"use", "use_two"} and not {kind, *kinds} >= {"ending", "question"}:
            kinds.add(kind)
    return [kind for kind in KIND_WEIGHTS if kind in kinds]


def _say(kind: str, request: str, words: Sequence[str], rng: random.Random) -> str:
    match kind:
        case "use":
            return f"Use the word '{rng.choice(words)}'."
        case "use_two":
            first, second = rng.sample(words, 2)
            return f"Use the words '{first}' and '{second}'."
        case "start":
            return f"Start with the word '{rng.choice(START_WORDS)}'."
        case "length":
            return _say_length(request, rng)
        case "ending":
            return rng.choice(("End with a question mark.", "End with an exclamation mark."))
        case "avoid":
            return f"Do not use the word '{rng.choice(AVOIDED_WORDS)}'."
        case "commas":
            return "Do not use commas."
        case _:
            return "Ask a question."


def _say_length(request: str, rng: random.Random) -> str:
    # A request for "a sentence" or "one line" has settled the number of sentences.
    if " sentence " in request or " line" in request:
        return f"Use {rng.choice(SHORT_WORD_LIMITS)} words."
    if rng.random() < 0.5:
        return f"Write {rng.choice(SENTENCE_LIMITS)}."
    return f"Use {rng.choice(LONG_WORD_LIMITS)} words."
