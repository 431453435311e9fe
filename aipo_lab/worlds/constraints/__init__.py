"""The constraints world: real instructions with constraints a program checks, for real language models.

Its instructions are a fixed, hand-written set: a seed changes nothing.
"""

from aipo_lab.worlds.constraints.world import ConstraintsWorld
from aipo_lab.worlds.world import WORLDS, WorldDefinition

WORLDS.add("constraints", WorldDefinition(make=lambda _: ConstraintsWorld()))
