"""How figures look on paper and on slides: sizes, fonts, and saving as PNG (300 dpi), PDF and SVG.

Everything a figure draws has its size in points of the paper style and goes through `scaled`, so that a slide is the
same drawing with larger letters and thicker lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH_IN = 3.3
FULL_WIDTH_IN = 7.0
PNG_DPI = 300
SMALLEST_PT = 6.0
"""No letter on paper is smaller, at the size that is printed."""
RATE_MARGIN = 0.05
"""Of its range, by which the axis of a rate may pass 0 and 100."""
_FONT_PT = 7.5
_SLIDE_SCALE = 1.45

Format = Literal["png", "pdf", "svg"]
FORMATS: tuple[Format, ...] = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Look:
    """How a figure comes out: `width` is its own choice unless given; `formats` are the files, in order."""

    style: Literal["paper", "slide"] = "paper"
    width: Literal["column", "full"] | None = None
    formats: tuple[Format, ...] = ("png", "pdf")

    @property
    def scale(self) -> float:
        """Letters and lines relative to the paper style."""
        return 1.0 if self.style == "paper" else _SLIDE_SCALE

    def width_in(self, own: Literal["column", "full"]) -> float:
        """The page's width: that of the look, else the figure's `own`."""
        return COLUMN_WIDTH_IN if (self.width or own) == "column" else FULL_WIDTH_IN


PAPER = Look()


def _settings(scale: float) -> dict[str, Any]:
    sizes = {
        "font.size": _FONT_PT,
        "axes.labelsize": _FONT_PT,
        "axes.titlesize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "axes.linewidth": 0.6,
        "grid.linewidth": 0.4,
        "lines.linewidth": 1.2,
        "lines.markersize": 4,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
    }
    return {name: size * scale for name, size in sizes.items()} | {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "legend.handletextpad": 0.5,
        "legend.columnspacing": 1.2,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.labelpad": 2.0,
        "grid.color": "#E4E4E4",
        "pdf.fonttype": 42,  # TrueType: journals refuse Type 3 fonts
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "aipo-lab",  # equal figures, equal files
    }


@contextmanager
def drawing(look: Look = PAPER) -> Iterator[None]:
    """Matplotlib's settings for a look, restored on leaving."""
    import matplotlib

    with matplotlib.rc_context(_settings(look.scale)):
        yield


def scaled(points: float) -> float:
    """A size in points of the paper style as the present look has it: letters, lines, markers."""
    import matplotlib

    return points * float(matplotlib.rcParams["font.size"]) / _FONT_PT


def new_figure(width_in: float, height_in: float, n_rows: int = 1, n_columns: int = 1, share: bool = False) -> Any:
    """A figure without pyplot (no global state, usable from any thread) and its axes, row by row, flat."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex=share, sharey=share)
    return figure, list(axes.flat)


def panel_grid(n_panels: int, look: Look, panel_height_in: float, most_columns: int = 3, share: bool = False) -> Any:
    """A figure for panels, one below the other in a column, else up to `most_columns` abreast; unused ones hidden.

    Returns (figure, axes of the panels, number of columns).
    """
    own: Literal["column", "full"] = "column" if n_panels == 1 else "full"
    width_in = look.width_in(own)
    n_columns = min(n_panels, most_columns if width_in > COLUMN_WIDTH_IN else max(1, most_columns // 2))
    n_rows = -(-n_panels // n_columns)
    height_in = (panel_height_in * n_rows + 0.35) * (1 + (look.scale - 1) / 3)
    figure, axes = new_figure(width_in, height_in, n_rows, n_columns, share)
    for unused in axes[n_panels:]:
        unused.set_axis_off()
    if share:
        for index in range(n_panels, len(axes)):
            axes[index - n_columns].tick_params(labelbottom=True)
    return figure, axes[:n_panels], n_columns


def legend_above(figure: Figure, handles: list[Any]) -> None:
    """A legend over all panels, in as few rows as its labels fit into the figure's width."""
    scale = scaled(1.0)
    widths_in = [(len(handle.get_label()) * 0.056 + 0.42) * scale for handle in handles]
    width_in = figure.get_figwidth()
    n_columns = len(handles) if sum(widths_in) <= width_in else max(1, int(width_in / max(widths_in)))
    figure.legend(handles=handles, loc="outside upper center", ncols=n_columns)


def lay_out(figure: Figure) -> None:
    """Place everything once, for good; what is placed by hand afterwards stays where it is."""
    if figure.get_layout_engine() is not None:
        for axes in figure.axes:
            axes.set_ylim(*rate_range(*axes.get_ylim(), axes.get_ylabel() or figure.get_supylabel()))
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def rate_range(low: float, high: float, label: str) -> tuple[float, float]:
    """An axis's range; of a rate (its label says `(%)`) no more than a margin, less than a tick, beyond 0 to 100."""
    if "(%)" not in label:
        return low, high
    margin = RATE_MARGIN * (min(high, 100.0) - max(low, 0.0))
    return max(low, -margin), min(high, 100.0 + margin)


def save(figure: Figure, path_stem: Path, look: Look = PAPER) -> list[Path]:
    """Write `<path_stem>.<format>` for each format of the look, without dates: equal results give equal files."""
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    lay_out(figure)
    paths = []
    for one in look.formats:
        paths.append(path_stem.with_name(f"{path_stem.name}.{one}"))
        metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[one]
        figure.savefig(paths[-1], dpi=PNG_DPI, metadata=metadata)
    return paths


def integer_ticks(axes: Axes, first: int, last: int) -> None:
    """Ticks on whole iterations only, at most about eight of them."""
    step = max(1, round((last - first) / 8))
    axes.set_xticks(range(first, last + 1, step))
    axes.set_xlim(first - 0.25, last + 0.25)
