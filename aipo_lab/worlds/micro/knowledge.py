"""What is true in the micro world: a random table of animals and their attributes, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

ENTITIES: tuple[str, ...] = (
    "badger", "bear", "beaver", "crow", "deer", "fox", "goat", "goose", "hare", "hedgehog",
    "horse", "lynx", "mole", "otter", "owl", "raven", "squirrel", "swan", "toad", "wolf",
)  # fmt: skip

VALUES: Mapping[str, tuple[str, ...]] = {
    "color": ("black", "blue", "green", "red", "white", "yellow"),
    "food": ("berries", "fish", "grass", "insects", "nuts", "seeds"),
    "home": ("farmland", "grassland", "moorland", "tundra", "wetland", "woodland"),
    "size": ("giant", "huge", "large", "medium", "small", "tiny"),
    "mood": ("calm", "curious", "grumpy", "playful", "proud", "shy"),
    "sound": ("barking", "chirping", "growling", "humming", "squeaking", "whistling"),
}

ATTRIBUTES: tuple[str, ...] = tuple(VALUES)


@dataclass(frozen=True)
class KnowledgeBase:
    """The facts of one world: `facts[entity][attribute]` is the true value."""

    facts: Mapping[str, Mapping[str, str]]

    def value(self, entity: str, attribute: str) -> str:
        """The true value of `attribute` for `entity`; both must be known to the world."""
        return self.facts[entity][attribute]

    def wrong_values(self, entity: str, attribute: str) -> tuple[str, ...]:
        """The values of `attribute` that are not true of `entity`."""
        truth = self.value(entity, attribute)
        return tuple(value for value in VALUES[attribute] if value != truth)


def draw_knowledge(seed: int) -> KnowledgeBase:
    """Draw every fact uniformly and independently; the same `seed` gives the same facts."""
    rng = random.Random(f"micro/knowledge/{seed}")
    return KnowledgeBase({entity: {name: rng.choice(VALUES[name]) for name in ATTRIBUTES} for entity in ENTITIES})
