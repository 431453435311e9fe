"""The constraints world: real instructions with constraints a program checks, for real language models."""

from __future__ import annotations

from aipo_lab.worlds.constraints.world import ConstraintsWorld


def make_world(seed: int) -> ConstraintsWorld:
    """The constraints world. `seed` changes nothing: its instructions are a fixed, hand-written set."""
    del seed
    return ConstraintsWorld()


__all__ = ["ConstraintsWorld", "make_world"]
