"""What the micro policy imitates: imperfect demonstrations, and documents in the self-instruct format."""

from __future__ import annotations

import random

from pydantic import BaseModel, ConfigDict, Field

from aipo_lab.worlds.micro.instructions import Request
from aipo_lab.worlds.micro.knowledge import ATTRIBUTES, KnowledgeBase
from aipo_lab.worlds.micro.responses import FILLERS, fact_sentence

DOCUMENT_INSTRUCTIONS = 10


class DemonstrationConfig(BaseModel):
    """How imperfect the demonstrations are.

    A policy that imitates them exactly has quality fact_probability x (1 - 1.5 x wrong_probability): 0.68 here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fact_probability: float = Field(
        0.8, ge=0.0, le=1.0, description="Probability that a requested fact is stated at all, 0 to 1."
    )
    wrong_probability: float = Field(
        0.1, ge=0.0, le=1.0, description="Probability that a stated fact carries a wrong value, 0 to 1."
    )
    filler_probability: float = Field(
        0.22,
        ge=0.0,
        le=0.9,
        description="Probability of each further filler sentence after a requested fact's slot, 0 to 0.9; "
        "the number of filler sentences per slot is geometric.",
    )
    unrequested_probability: float = Field(
        0.15, ge=0.0, le=1.0, description="Probability of one fact nobody asked for at the end, 0 to 1."
    )


def draw_demonstration(
    rng: random.Random, knowledge: KnowledgeBase, request: Request, config: DemonstrationConfig
) -> str:
    """Draw one imperfect response to `request`. It has at least one sentence, filler if nothing else."""
    sentences: list[str] = []
    for attribute in request.attributes:
        if rng.random() < config.fact_probability:
            sentences.append(_draw_fact(rng, knowledge, request.entity, attribute, config))
        while rng.random() < config.filler_probability:
            sentences.append(rng.choice(FILLERS))
    if rng.random() < config.unrequested_probability:
        others = [name for name in ATTRIBUTES if name not in request.attributes]
        sentences.append(_draw_fact(rng, knowledge, request.entity, rng.choice(others), config))
    return " ".join(sentences or [rng.choice(FILLERS)])


def _draw_fact(
    rng: random.Random, knowledge: KnowledgeBase, entity: str, attribute: str, config: DemonstrationConfig
) -> str:
    """One fact sentence, with a wrong value by chance."""
    value = knowledge.value(entity, attribute)
    if rng.random() < config.wrong_probability:
        value = rng.choice(knowledge.wrong_values(entity, attribute))
    return fact_sentence(entity, attribute, value)
