"""How the micro world's policy judges, in the few words it has: demonstrations of scores and verdicts.

They stand where the evaluation data of Self-Rewarding (arXiv 2401.10020, section 2.1) stand: a policy trained on some
of them can be its own judge. The templates are those of the recipes that ask it (`sweeps/methods/`).
"""

from __future__ import annotations

import random

from aipo_lab.worlds.micro.demonstrations import DemonstrationConfig, draw_demonstration
from aipo_lab.worlds.micro.instructions import Request
from aipo_lab.worlds.micro.knowledge import KnowledgeBase
from aipo_lab.worlds.micro.responses import response_quality

BEST_SCORE = 5

SCORE_TEMPLATE = "{prompt}\n{response}\nWhat is that worth?"
PAIR_TEMPLATE = "{prompt}\n1. {response_a}\n2. {response_b}\nWhat is worth more?"
META_TEMPLATE = "{prompt}\n{response}\n1. {judgment_a}\n2. {judgment_b}\nWhat is worth knowing?"


def score_of(quality: float) -> int:
    """The points, 0 to 5, of a response of that quality: wrong facts cost points, but there are none below 0."""
    return round(BEST_SCORE * max(0.0, quality))


def judgment(score: int) -> str:
    """A judgment in words."""
    return f"That is worth {score}."


def draw_judging(
    rng: random.Random, knowledge: KnowledgeBase, instruction: str, request: Request, config: DemonstrationConfig
) -> tuple[str, str]:
    """A judge's question about one or two drawn responses, and the true reply: half are scores."""
    response, other = (draw_demonstration(rng, knowledge, request, config) for _ in range(2))
    first, second = (response_quality(knowledge, request, text) for text in (response, other))
    kind = rng.random()
    if kind < 0.5:
        return SCORE_TEMPLATE.format(prompt=instruction, response=response), judgment(score_of(first))
    if kind < 0.75:
        question = PAIR_TEMPLATE.format(prompt=instruction, response_a=response, response_b=other)
        better = 1 + int(second > first) if first != second else rng.choice((1, 2))
        return question, f"{better} is worth more."
    return _draw_meta(rng, instruction, response, score_of(first))


def _draw_meta(rng: random.Random, instruction: str, response: str, truth: int) -> tuple[str, str]:
    """Two judgments of a response; the one nearer to the true score is worth knowing."""
    scores = rng.sample(range(BEST_SCORE + 1), 2)
    errors = [abs(score - truth) for score in scores]
    better = 1 + int(errors[1] < errors[0]) if errors[0] != errors[1] else rng.choice((1, 2))
    question = META_TEMPLATE.format(
        prompt=instruction, response=response, judgment_a=judgment(scores[0]), judgment_b=judgment(scores[1])
    )
    return question, f"{better} is worth knowing."
