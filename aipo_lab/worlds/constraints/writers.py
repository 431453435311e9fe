"""Other writers of the constraints world: what stands where a preference dataset has responses of several models.

A writer puts together a few drafts of plain sentences and keeps the one that meets most checks: the more drafts, the
more careful. No model is needed, and the truth about every text is known.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

DRAFTS = (1, 2, 5, 16)
"""Drafts of each writer, the careless one first."""

SENTENCES = (
    "the {} is part of the story",
    "people still talk about the {} on quiet evenings",
    "a small {} changes how the day feels",
    "nobody forgets the {} for long",
    "there is more than one {} to look for",
    "it began with a {} and a little patience",
    "you can hear of the {} in every street",
    "some things, like the {}, are worth waiting for",
)
ORDINARY_WORDS = ("light", "road", "friend", "season", "idea", "song", "letter", "evening")
MARKS = (".", ".", ".", "!", "?")
MAX_SENTENCES = 4
_QUOTED = re.compile(r"'([A-Za-z]+)'")


def write_responses(rng: random.Random, prompt: str, quality: Callable[[str], float]) -> list[str]:
    """One response of each writer to `prompt`; `quality` is the truth about a text."""
    named = _QUOTED.findall(prompt)
    return [max((_draft(rng, named) for _ in range(n)), key=quality) for n in DRAFTS]


def _draft(rng: random.Random, named: list[str]) -> str:
    """Some sentences with some of the words that the prompt names."""
    words = [word for word in named if rng.random() < 0.7]
    n = rng.randint(1, MAX_SENTENCES)
    subjects = [*(word.lower() for word in words), *rng.sample(ORDINARY_WORDS, MAX_SENTENCES)][:n]
    sentences = [frame.format(subject) for frame, subject in zip(rng.sample(SENTENCES, n), subjects, strict=True)]
    if words and rng.random() < 0.5:
        sentences[0] = f"{rng.choice(words).lower()} {sentences[0]}"
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}{rng.choice(MARKS)}" for sentence in sentences)
