"""How the values of a hyperparameter look: lightness for the one with most values, line style for the other.

Sequential colours run from dark to light only, so that their order is the same in grey and to colour-blind eyes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from aipo_lab.figures.palette import DASHES, HYPERPARAMETER_SYMBOLS, SETTING_COLOURS, Dash
from aipo_lab.results.rows import HYPERPARAMETER_COLUMNS

if TYPE_CHECKING:
    from pandas import DataFrame

CONTINUOUS = 6
"""More numbers than these are a colour bar instead of names."""
_LIGHTEST = 0.86  # of the colour map: yellow beyond it vanishes on white paper
_LOGARITHMIC = 20.0
_MAP = "viridis"


@dataclass(frozen=True)
class Scale:
    """The values of one hyperparameter as printed, in order; `numbers` where all of them are numbers."""

    name: str
    values: tuple[str, ...]
    numbers: tuple[float, ...] | None

    @property
    def symbol(self) -> str:
        """Its symbol, or its last name."""
        return HYPERPARAMETER_SYMBOLS.get(self.name, self.name.rpartition(".")[2])

    @property
    def continuous(self) -> bool:
        """Whether it is shown as a colour bar."""
        return self.numbers is not None and len(self.values) > CONTINUOUS

    @property
    def logarithmic(self) -> bool:
        """Whether the colour bar has a logarithmic scale."""
        return (
            self.numbers is not None and min(self.numbers) > 0 and max(self.numbers) / min(self.numbers) > _LOGARITHMIC
        )

    def label(self, value: str) -> str:
        """A value with the symbol, e.g. `β=0.1`."""
        return f"{self.symbol}={value.rpartition('/')[2]}"

    def norm(self) -> Any:
        """Matplotlib's normalisation for the colour bar."""
        from matplotlib.colors import LogNorm, Normalize

        assert self.numbers is not None
        return (LogNorm if self.logarithmic else Normalize)(min(self.numbers), max(self.numbers))

    def colour(self, value: str) -> Any:
        """The colour of a value."""
        place = self.values.index(value)
        if self.numbers is None:
            return SETTING_COLOURS[place % len(SETTING_COLOURS)]
        if self.continuous:
            return sequential_map()(float(self.norm()(self.numbers[place])))
        return sequential_map()(place / max(1, len(self.values) - 1))

    def dash(self, value: str) -> Dash:
        """The line style of a value."""
        return DASHES[self.values.index(value) % len(DASHES)]


@cache
def sequential_map() -> Any:
    """The colour map without its lightest part."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap([colormaps[_MAP](_LIGHTEST * k / 255) for k in range(256)])


def get_scales(paths: DataFrame) -> tuple[Scale | None, Scale | None]:
    """(by colour, by line style): the hyperparameters of `paths` with most values; the second has at most four."""
    found = [scale for name in hyperparameters(paths) if len((scale := _scale(name, paths)).values) > 1]
    found.sort(key=lambda scale: -len(scale.values))
    dashed = next((scale for scale in found[1:] if len(scale.values) <= len(DASHES)), None)
    return (found[0] if found else None), dashed


def hyperparameters(paths: DataFrame) -> list[str]:
    """The hyperparameter columns of a table of paths."""
    from aipo_lab.figures.trajectories import PATH_COLUMNS

    kept = [name for name in paths.columns if name not in (*PATH_COLUMNS, "on_front", "method")]
    return sorted(kept, key=lambda name: (name not in HYPERPARAMETER_COLUMNS, name))


def _scale(name: str, paths: DataFrame) -> Scale:
    texts = list(dict.fromkeys(paths[name].dropna()))
    numbers = _numbers(texts)
    if numbers is None:
        return Scale(name, tuple(texts), None)
    pairs = sorted(zip(numbers, texts, strict=True))
    return Scale(name, tuple(text for _, text in pairs), tuple(number for number, _ in pairs))


def _numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
