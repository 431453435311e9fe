"""Other writers of the micro world: what stands where a preference dataset has responses of several models.

They differ in care and in length from each other and from the base policy, whose demonstrations are the second's.
"""

from __future__ import annotations

import random

from aipo_lab.worlds.micro.demonstrations import DemonstrationConfig, draw_demonstration
from aipo_lab.worlds.micro.instructions import Request
from aipo_lab.worlds.micro.knowledge import KnowledgeBase


def _writer(fact: float, wrong: float, filler: float, unrequested: float) -> DemonstrationConfig:
    return DemonstrationConfig(
        fact_probability=fact,
        wrong_probability=wrong,
        filler_probability=filler,
        unrequested_probability=unrequested,
    )


WRITERS = (
    _writer(0.5, 0.3, 0.1, 0.0),
    DemonstrationConfig(),
    _writer(0.9, 0.05, 0.5, 0.4),
    _writer(0.98, 0.02, 0.05, 0.0),
)
"""A careless one, one like the base policy's teacher, a talkative one and a careful, terse one."""


def write_responses(rng: random.Random, knowledge: KnowledgeBase, request: Request) -> list[str]:
    """One response of each writer to `request`."""
    return [draw_demonstration(rng, knowledge, request, writer) for writer in WRITERS]
