"""The micro world: a world in a bottle in which length exploitation reproduces on a laptop in minutes."""

from __future__ import annotations

from aipo_lab.worlds.micro.world import MicroWorld


def make_world(seed: int) -> MicroWorld:
    """The micro world drawn from `seed`; the same seed gives the same knowledge and the same prompts."""
    return MicroWorld(seed)


__all__ = ["MicroWorld", "make_world"]
