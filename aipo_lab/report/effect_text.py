"""Effects in words: `12.3 ± 1.2`, with half of the 95 % interval."""

from __future__ import annotations

from aipo_lab.results.effects import Effect

MISSING = "–"


def plus_minus(effect: Effect | None, decimals: int = 1) -> str:
    """A value and half of its 95 % interval, as far as they are known."""
    return MISSING if effect is None else f"{effect.value:.{decimals}f}{_interval(effect, decimals)}"


def signed(effect: Effect | None, decimals: int = 1) -> str:
    """The same of a difference, with its sign."""
    return MISSING if effect is None else f"{effect.value:+.{decimals}f}{_interval(effect, decimals)}"


def _interval(effect: Effect, decimals: int) -> str:
    half = effect.half_width
    return "" if half is None else f" ± {half:.{decimals}f}"
