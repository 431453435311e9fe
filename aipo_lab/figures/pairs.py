"""Figures of analysed pairs: log-probability by length (paper, Figure 5), s_ref by length difference (Figure 6).

Data are rows of `analysis.jsonl` (stage `analyse`), a panel for each set of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.figures.style import PAPER, Look, drawing, legend_above, panel_grid, save, scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

Rows = Sequence[Mapping[str, Any]]

CHOSEN, REJECTED, PAIR = "#0072B2", "#D55E00", "#444444"
LOOKS = {"chosen": (CHOSEN, "o"), "rejected": (REJECTED, "^"), "pair": (PAIR, "o")}
MOST_PANELS = 6
DRAWN_POINTS = 3000
"""Points of a cloud that are drawn, evenly through the pairs; coefficients are of all."""


def get_logps_by_length_data(analyses: Mapping[str, Rows]) -> DataFrame:
    """Figure 5: every response by its length (`x`, tokens) and its log-probability under theta_t (`y`, nats).

    Columns `figure`, `title` (of its set of pairs), `kind` (`chosen` or `rejected`), `pair` (its number), `x`, `y`.
    `analyses`: rows by title, at most `MOST_PANELS` of which are taken.
    """
    columns = {role: (f"{role}_tokens", f"{role}_logps") for role in ("chosen", "rejected")}
    return _points("figure5", analyses, columns)


def get_s_ref_by_length_difference_data(analyses: Mapping[str, Rows]) -> DataFrame:
    """Figure 6: every pair by |y_w| - |y_l| (`x`, tokens) and s_ref (`y`, nats), kind `pair`; columns as Figure 5."""
    return _points("figure6", analyses, {"pair": ("length_difference_tokens", "s_ref")})


def _points(figure: str, analyses: Mapping[str, Rows], columns: Mapping[str, tuple[str, str]]) -> DataFrame:
    import pandas as pd

    taken = [(title, rows) for title, rows in analyses.items() if rows][:MOST_PANELS]
    lines = [
        (figure, title, kind, number, row[x], row[y])
        for title, rows in taken
        for kind, (x, y) in columns.items()
        for number, row in enumerate(rows)
    ]
    return pd.DataFrame(lines, columns=["figure", "title", "kind", "pair", "x", "y"])


def get_coefficients(data: DataFrame) -> DataFrame:
    """Pearson's and Spearman's rho of each set's points together: `title`, `name`, `rho`, `rho_se` over pairs, `n`.

    A set whose x or y is constant has none.
    """
    import pandas as pd

    from aipo_lab.curation.correlation import pearson, spearman

    lines = []
    for title, panel in data.groupby("title", sort=False):
        pairs = [one for _, one in panel.groupby("pair", sort=True)]
        x, y = ([list(one[axis]) for one in pairs] for axis in ("x", "y"))
        for name, found in (("Pearson", pearson(x, y)), ("Spearman", spearman(x, y))):
            if found is not None:
                lines.append((title, name, found.value, math.nan if found.se is None else found.se, found.n))
    return pd.DataFrame(lines, columns=["title", "name", "rho", "rho_se", "n"])


def draw_pairs(data: DataFrame, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Draw a panel for each set of pairs, up to three in a row, on equal axes; [] without pairs."""
    if data.empty:
        return []
    figure_name = data["figure"].iloc[0]
    with drawing(look):
        groups = list(data.groupby("title", sort=False))
        figure, axes, _ = panel_grid(len(groups), look, 2.0, share=True)
        rhos = get_coefficients(data)
        for panel_axes, (title, panel) in zip(axes, groups, strict=True):
            _draw_panel(panel_axes, title, panel, rhos[rhos["title"] == title], figure_name == "figure6")
        kinds = list(dict.fromkeys(data["kind"]))
        if len(kinds) > 1:
            legend_above(figure, _handles(kinds))
        x_label, y_label = _LABELS[figure_name]
        figure.supxlabel(x_label, fontsize=scaled(7.5))
        figure.supylabel(y_label, fontsize=scaled(7.5))
        return save(figure, path_stem, look)


def _draw_panel(axes: Axes, title: str, panel: DataFrame, rhos: DataFrame, zero_lines: bool) -> None:
    if zero_lines:
        for line in (axes.axhline, axes.axvline):
            line(0, color="black", linewidth=scaled(0.6), zorder=1.5)
    for kind, cloud in panel.groupby("kind", sort=False):
        colour, marker = LOOKS[kind]
        shown = cloud.iloc[:: -(-len(cloud) // DRAWN_POINTS)]
        axes.scatter(shown["x"], shown["y"], rasterized=True, s=scaled(3.0) ** 2, color=colour, marker=marker,
                     alpha=0.45, linewidths=0)  # fmt: skip
    axes.set_title(f"{title} ({panel['pair'].nunique()} pairs)")
    axes.text(
        0.97, 0.96, rho_text(rhos), transform=axes.transAxes, ha="right", va="top", fontsize=scaled(6.5),
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )  # fmt: skip


def rho_text(rhos: DataFrame) -> str:
    """The coefficients of one set as its panel shows them, with their standard errors."""
    if rhos.empty:
        return "ρ = –"
    return "\n".join(f"{one['name']} ρ = {_signed(one.rho, one.rho_se)}" for _, one in rhos.iterrows())


def _signed(value: float, se: float) -> str:
    return f"{value:+.2f}".replace("-", "−") + ("" if math.isnan(se) else f" ± {se:.2f}")


def _handles(kinds: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=LOOKS[kind][0], marker=LOOKS[kind][1], linestyle="none", markersize=scaled(4), label=kind)
        for kind in kinds
    ]


_LABELS = {
    "figure5": ("Response length (tokens)", r"$\log\,\pi_\mathrm{ref}(y|x)$ (nats)"),
    "figure6": (r"$|y_w| - |y_l|$ (tokens)", r"$s_\mathrm{ref}$ (nats)"),
}
FIGURES = {
    "figure5_pairs": get_logps_by_length_data,
    "figure6_pairs": get_s_ref_by_length_difference_data,
}
CAPTIONS = {
    "figure5_pairs": "Log-probability of every response under the policy that wrote it, by its length (paper, Figure "
    "5). ρ over chosen and rejected together, ± its standard error over pairs.",
    "figure6_pairs": "s_ref of every pair by the difference in length of chosen and rejected (paper, Figure 6). Above "
    "0 the policy prefers what the ranker chose. ρ ± its standard error over pairs.",
}


def draw_pair_figures(analyses: Mapping[str, Rows], folder: Path) -> dict[str, Path]:
    """Draw both figures into `folder`; the PNG of each by name, none without analyses."""
    drawn = {name: draw_pairs(get_data(analyses), folder / name) for name, get_data in FIGURES.items()}
    return {name: paths[0] for name, paths in drawn.items() if paths}
