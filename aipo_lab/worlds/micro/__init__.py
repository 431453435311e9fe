"""The micro world: a world in a bottle in which length exploitation reproduces on a laptop in minutes."""

from aipo_lab.worlds.micro.world import MicroWorld
from aipo_lab.worlds.world import WORLDS, WorldDefinition

WORLDS.add("micro", WorldDefinition(make=MicroWorld))
