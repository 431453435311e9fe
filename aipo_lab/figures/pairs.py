"""Figures of analysed pairs: log-probability by length (paper, Figure 5), s_ref by length difference (Figure 6).

Data are rows of `analysis.jsonl` (stage `analyse`), a panel for each set of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipo_lab.figures.style import COLUMN_WIDTH_IN, FULL_WIDTH_IN, legend_above, new_figure, print_style, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aipo_lab.curation.correlation import Correlation

Rows = Sequence[Mapping[str, Any]]

CHOSEN, REJECTED, PAIR = "#0072B2", "#D55E00", "#444444"
LOOKS = {"chosen": (CHOSEN, "o"), "rejected": (REJECTED, "^"), "pair": (PAIR, "o")}
MOST_PANELS = 6
DRAWN_POINTS = 3000
"""Points of a cloud that are drawn, evenly through the pairs; coefficients are of all."""


@dataclass(frozen=True)
class Cloud:
    """Points (x, y) of one kind: `chosen`, `rejected` or `pair`."""

    kind: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class PairsPanel:
    """One set of pairs; the coefficients are of all its points together, None where x or y is constant."""

    title: str
    clouds: list[Cloud]
    pearson: Correlation | None
    spearman: Correlation | None

    @property
    def rho(self) -> str:
        """Both coefficients, named, as the panel shows them."""
        both = (("Pearson", self.pearson), ("Spearman", self.spearman))
        return "\n".join(f"{name} ρ = {_signed(one)}" for name, one in both)


@dataclass(frozen=True)
class PairsData:
    """The panels of a figure with its axis labels; `zero_lines` marks where both axes are 0."""

    panels: list[PairsPanel]
    x_label: str
    y_label: str
    zero_lines: bool


def get_logps_by_length_data(analyses: Mapping[str, Rows]) -> PairsData:
    """Figure 5: every response by its length and its log-probability under theta_t.

    `analyses`: rows by title, at most `MOST_PANELS` of which are taken.
    """
    panels = []
    for title, rows in _taken(analyses):
        clouds = [
            Cloud(role, _values(rows, f"{role}_tokens"), _values(rows, f"{role}_logps"))
            for role in ("chosen", "rejected")
        ]
        panels.append(_panel(title, clouds))
    return PairsData(panels, "Response length (tokens)", r"$\log\,\pi_\mathrm{ref}(y|x)$ (nats)", zero_lines=False)


def get_s_ref_by_length_difference_data(analyses: Mapping[str, Rows]) -> PairsData:
    """Figure 6: every pair by |y_w| - |y_l| and s_ref; see `get_logps_by_length_data`."""
    panels = [
        _panel(title, [Cloud("pair", _values(rows, "length_difference_tokens"), _values(rows, "s_ref"))])
        for title, rows in _taken(analyses)
    ]
    return PairsData(panels, r"$|y_w| - |y_l|$ (tokens)", r"$s_\mathrm{ref}$ (nats)", zero_lines=True)


def _values(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows]


def _taken(analyses: Mapping[str, Rows]) -> list[tuple[str, Rows]]:
    return [(title, rows) for title, rows in analyses.items() if rows][:MOST_PANELS]


def _panel(title: str, clouds: list[Cloud]) -> PairsPanel:
    from aipo_lab.curation.correlation import pearson, spearman

    x = [list(values) for values in zip(*(cloud.x for cloud in clouds), strict=True)]
    y = [list(values) for values in zip(*(cloud.y for cloud in clouds), strict=True)]
    return PairsPanel(title, clouds, pearson(x, y), spearman(x, y))


def _signed(one: Correlation | None) -> str:
    if one is None:
        return "–"
    return f"{one.value:+.2f}".replace("-", "−") + ("" if one.se is None else f" ± {one.se:.2f}")


def draw_pairs(data: PairsData, path_stem: Path) -> list[Path]:
    """Draw the panels, up to three in a row, on equal axes; PNG and PDF, [] without panels."""
    if not data.panels:
        return []
    n_columns = min(3, len(data.panels))
    n_rows = -(-len(data.panels) // n_columns)
    width_in = COLUMN_WIDTH_IN if n_columns == 1 else FULL_WIDTH_IN
    with print_style():
        figure, axes = new_figure(width_in, 2.4 * n_rows + 0.4, n_rows, n_columns, share=True)
        for panel_axes, panel in zip(axes, data.panels, strict=False):
            _draw_panel(panel_axes, panel, data.zero_lines)
        for unused in axes[len(data.panels) :]:
            unused.set_visible(False)
        if len(data.panels[0].clouds) > 1:
            legend_above(figure, _handles(data.panels[0]))
        figure.supxlabel(data.x_label, fontsize=8)
        figure.supylabel(data.y_label, fontsize=8)
        return save(figure, path_stem)


def _draw_panel(axes: Axes, panel: PairsPanel, zero_lines: bool) -> None:
    if zero_lines:
        for line in (axes.axhline, axes.axvline):
            line(0, color="black", linewidth=0.6, zorder=1.5)
    for cloud in panel.clouds:
        colour, marker = LOOKS[cloud.kind]
        step = -(-len(cloud.x) // DRAWN_POINTS)
        look: dict[str, Any] = {"s": 9, "color": colour, "marker": marker, "alpha": 0.45, "linewidths": 0}
        axes.scatter(cloud.x[::step], cloud.y[::step], rasterized=True, **look)
    axes.set_title(f"{panel.title} ({len(panel.clouds[0].x)} pairs)")
    axes.text(
        0.97, 0.96, panel.rho, transform=axes.transAxes, ha="right", va="top", fontsize=7.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )  # fmt: skip


def _handles(panel: PairsPanel) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=LOOKS[c.kind][0], marker=LOOKS[c.kind][1], linestyle="none", markersize=4.5, label=c.kind)
        for c in panel.clouds
    ]


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
