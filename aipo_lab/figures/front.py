"""The Pareto front as a figure shows it: its steps, the band that errors of measurement leave, its points by letter."""

from __future__ import annotations

import math
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from aipo_lab.figures.palette import objective_name
from aipo_lab.results.front import pareto_front

if TYPE_CHECKING:
    from pandas import DataFrame, Series

BAND_DRAWS = 400
BAND_GRID = 240
_RANDOM_SEED = 20240908
_MOST_LETTERS = 12
_APART = 0.07


def on_front(paths: DataFrame) -> Series:
    """Whether each point is on the Pareto front of its panel (x down, y up); copies of a point count once."""
    import pandas as pd

    marks = pd.Series(False, index=paths.index)
    for _, panel in paths.groupby("y_metric", sort=False):
        single = panel.drop_duplicates(["x", "y"])
        places = pareto_front(list(zip(single["x"], single["y"], strict=True)))
        marks.loc[single.index[places]] = True
    return marks


def get_front_band(panel: DataFrame) -> DataFrame:
    """Columns `x`, `low`, `high`: where 95 % of fronts lie whose points are drawn anew with their standard errors.

    Only points of the front are drawn: with all others among them the best of many noisy points would lift the band
    off the front. Empty where no point of the front has an error. `low` is -inf left of the first point.
    """
    import numpy as np
    import pandas as pd

    front = panel[panel["on_front"]]
    errors = front[["x_se", "y_se"]].fillna(0.0).to_numpy()
    if len(front) == 0 or not errors.any():
        return pd.DataFrame(columns=["x", "low", "high"])
    noise = np.random.default_rng(_RANDOM_SEED).standard_normal((BAND_DRAWS, len(front), 2)) * errors
    x, y = (noise[..., axis] + front[name].to_numpy() for axis, name in enumerate(("x", "y")))
    right = panel["x"].max() + 0.2 * (panel["x"].max() - panel["x"].min())
    grid = np.linspace(front["x"].min() - 2 * errors[:, 0].max(), right, BAND_GRID)
    reached = np.where(x[:, :, None] <= grid, y[:, :, None], -np.inf).max(axis=1)
    low, high = np.quantile(reached, [0.025, 0.975], axis=0, method="nearest")
    return pd.DataFrame({"x": grid, "low": low, "high": high})


def lettered(panel: DataFrame, spans: tuple[float, float]) -> list[tuple[str, float, float, bool, str]]:
    """(letter, x, y, whether picked, what it is) of trained points of the front, by growing length, at most twelve.

    `spans`: the widths of the axes' ranges. Of points closer than `_APART` of them the picked one, else the first has
    a letter.
    """
    front = panel[panel["on_front"] & (panel["iteration"] > 0)].sort_values(["best", "x"], ascending=[False, True])
    kept: list[Any] = []
    for one in front.itertuples():
        if all(math.hypot((one.x - o.x) / spans[0], (one.y - o.y) / spans[1]) > _APART for o in kept):
            kept.append(one)
    several = panel["objective"].nunique() > 1
    kept = sorted(kept[:_MOST_LETTERS], key=lambda one: one.x)
    return [
        (letter, one.x, one.y, one.best, _name(one, several))
        for letter, one in zip(ascii_lowercase, kept, strict=False)
    ]


def _name(point: Any, several: bool) -> str:
    """The objective, where there are several, and the setting, then the iteration."""
    objective = objective_name(point.objective) if several or not point.setting else ""
    return " ".join(filter(None, (objective, point.setting, f"@{point.iteration}")))
