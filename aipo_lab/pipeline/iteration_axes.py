"""What an iteration trains from, on and against: the recipe's keys `start`, `data` and `reference`.

Algorithm 1 starts from theta_t, trains on the iteration's own pairs, and measures against theta_t. Each of the three
has alternatives, whose graphs share with it what they have in common: at t = 0 they are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from aipo_lab.stages.definition import StageNode

if TYPE_CHECKING:
    from aipo_lab.pipeline.recipe import Recipe

ReferencePolicy = Literal["previous", "base", "ema"]
TrainingData = Literal["fresh", "accumulated"]
TrainingStart = Literal["previous", "base"]

MakeNode = Callable[[str, Mapping[str, Any], Mapping[str, StageNode]], StageNode]


class IterationAxes:
    """The inputs of every training of one trial, iteration after iteration."""

    def __init__(self, recipe: Recipe, base: StageNode, make: MakeNode) -> None:
        self.recipe = recipe
        self.base = base
        self.make = make
        self.average = base
        self.pairs: list[StageNode] = []

    def start(self, policy: StageNode) -> StageNode:
        """The policy that the training of an iteration starts from; `policy` is theta_t."""
        return self.base if self.recipe.start == "base" else policy

    def data(self, pairs: StageNode) -> StageNode:
        """The pairs of an iteration's training; `pairs` are its own. Called once an iteration.

        Given pairs may be the same in several iterations: they are accumulated once.
        """
        if pairs.reference not in {node.reference for node in self.pairs}:
            self.pairs.append(pairs)
        if self.recipe.data == "fresh" or len(self.pairs) == 1:
            return pairs
        return self.make("accumulate", {}, {f"pairs_{t}": node for t, node in enumerate(self.pairs)})

    def reference(self, t: int, policy: StageNode) -> StageNode:
        """The policy whose log-probabilities are the reference; `policy` is theta_t. Called once an iteration."""
        if self.recipe.reference == "previous":
            return policy
        if self.recipe.reference == "ema" and t > 0:
            inputs = {"average": self.average, "policy": policy}
            self.average = self.make("ema", {"decay": self.recipe.ema_decay}, inputs)
        return self.average
