"""Print style shared by all figures: sizes, fonts, and saving as PNG (300 dpi) and PDF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH_IN = 3.4
FULL_WIDTH_IN = 7.0
PNG_DPI = 300
_RATE_MARGIN = 0.05

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD",
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3 fonts
}


@contextmanager
def print_style() -> Iterator[None]:
    """Matplotlib's settings for print, restored on leaving."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width_in: float, height_in: float, n_rows: int = 1, n_columns: int = 1, share: bool = False) -> Any:
    """A figure without pyplot (no global state, usable from any thread) and its axes, row by row, flat."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex=share, sharey=share)
    return figure, list(axes.flat)


def legend_above(figure: Figure, handles: list[Any]) -> None:
    """A legend over all panels, in as few rows as its labels fit into the figure's width."""
    widest_in = max(len(handle.get_label()) for handle in handles) * 0.058 + 0.42
    total_in = sum(len(handle.get_label()) * 0.058 + 0.42 for handle in handles)
    width_in = figure.get_figwidth()
    n_columns = len(handles) if total_in <= width_in else max(1, int(width_in / widest_in))
    figure.legend(handles=handles, loc="outside upper center", ncols=n_columns)


def save(figure: Figure, path_stem: Path) -> list[Path]:
    """Write `<path_stem>.png` and `.pdf`, without dates so that equal results give equal files."""
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    png = path_stem.with_name(path_stem.name + ".png")
    pdf = path_stem.with_name(path_stem.name + ".pdf")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, not again for each format
    figure.savefig(png, dpi=PNG_DPI, metadata={"Software": None})
    figure.savefig(pdf, metadata={"CreationDate": None})
    return [png, pdf]


def rate_range(low: float, high: float, label: str) -> tuple[float, float]:
    """An axis's range; of a rate (its label says `(%)`) no more than a margin, less than a tick, beyond 0 to 100."""
    if "(%)" not in label:
        return low, high
    margin = _RATE_MARGIN * (min(high, 100.0) - max(low, 0.0))
    return max(low, -margin), min(high, 100.0 + margin)


def keep_to_rates(axes: Axes) -> None:
    """Give the vertical axis, which is labelled and drawn on, its `rate_range`."""
    axes.set_ylim(*rate_range(*axes.get_ylim(), axes.get_ylabel()))


def integer_ticks(axes: Axes, first: int, last: int) -> None:
    """Ticks on whole iterations only, at most about eight of them."""
    step = max(1, round((last - first) / 8))
    axes.set_xticks(range(first, last + 1, step))
    axes.set_xlim(first - 0.25, last + 0.25)
