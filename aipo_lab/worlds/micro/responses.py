"""The responses of the micro world: fact sentences, filler sentences, and the exact quality of any text."""

from __future__ import annotations

import re

from aipo_lab.worlds.micro.instructions import Request
from aipo_lab.worlds.micro.knowledge import KnowledgeBase

WRONG_FACT_PENALTY = 0.5

FILLERS: tuple[str, ...] = (
    "As many people say, that is well known.",
    "That is worth knowing.",
    "Everyone agrees on this point.",
    "It is a pleasure to share this.",
    "There is more to say about it.",
)

_FACT = re.compile(r"The (?P<attribute>[a-z]+) of the (?P<entity>[a-z]+) is (?P<value>[a-z]+)")


def fact_sentence(entity: str, attribute: str, value: str) -> str:
    """The sentence that states one fact, true or not."""
    return f"The {attribute} of the {entity} is {value}."


def stated_values(response: str, entity: str) -> dict[str, set[str]]:
    """All values that the complete sentences of `response` state for each attribute of `entity`.

    A sentence ends with a full stop; a tail without one (a truncated response) states nothing.
    """
    stated: dict[str, set[str]] = {}
    for sentence in response.split(".")[:-1]:
        match = _FACT.fullmatch(" ".join(sentence.split()))
        if match is not None and match["entity"] == entity:
            stated.setdefault(match["attribute"], set()).add(match["value"])
    return stated


def response_quality(knowledge: KnowledgeBase, request: Request, response: str) -> float:
    """(facts stated correctly - 0.5 x facts stated wrongly) / facts requested, in [-0.5, 1].

    A requested fact counts once however often it is stated: as right when every statement of it is the true
    value, as wrong when any statement of it is another word. Unrequested facts, other entities, filler and
    anything else count for nothing. An empty response has quality 0.
    """
    stated = stated_values(response, request.entity)
    score = 0.0
    for attribute in request.attributes:
        values = stated.get(attribute)
        if values:
            right = values == {knowledge.value(request.entity, attribute)}
            score += 1.0 if right else -WRONG_FACT_PENALTY
    return score / len(request.attributes)
