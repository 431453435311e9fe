"""How objectives look and are called: colour-blind-safe colours, markers, names, order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aipo_lab.results.rows import HYPERPARAMETER_COLUMNS, ResultRow

# Okabe and Ito, "Color Universal Design" (2008); their yellow is left out: it vanishes on white paper.
BLUE, ORANGE, VERMILLION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
PURPLE, SKY_BLUE, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#7F7F7F"


Dash = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class ObjectiveStyle:
    """Display name, colour, matplotlib marker and line style of one objective."""

    name: str
    colour: str
    marker: str
    dash: Dash = "-"

    @property
    def ink(self) -> str:
        """Black or white, whichever reads better on the colour (relative luminance of WCAG 2.1)."""
        return "black" if luminance(self.colour) > 0.3 else "white"


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1) of #RRGGBB, 0 black to 1 white."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


KNOWN_STYLES: dict[str, ObjectiveStyle] = {
    "dpo": ObjectiveStyle("DPO", BLUE, "o"),
    "dpo_nll": ObjectiveStyle("DPO+NLL", SKY_BLUE, "s", (0, (4, 1.5))),
    "simpo": ObjectiveStyle("SimPO", ORANGE, "^", (0, (1.2, 1.2))),
    "alpha_dpo": ObjectiveStyle("α-DPO", GREEN, "D", (0, (5, 1.2, 1.2, 1.2))),
    "aipo": ObjectiveStyle("AIPO", VERMILLION, "v"),
}
_FURTHER_COLOURS = (PURPLE, BLACK, GREY, BLUE, ORANGE, GREEN, SKY_BLUE, VERMILLION)
_FURTHER_MARKERS = ("P", "X", "p", "<", ">", "h", "d", "8", "H")
DASHES: tuple[Dash, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
"""Line styles, the plainest first; they are told apart also where colours are not."""
HYPERPARAMETER_SYMBOLS = {"beta": "β", "alpha": "α", "gamma": "γ", "lambda": "λ"}
# For lines that are not objectives (the settings within one objective): each differs in lightness as well.
SETTING_COLOURS = (BLACK, BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY_BLUE)
SETTING_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def objective_styles(objectives: Iterable[str]) -> dict[str, ObjectiveStyle]:
    """The style of each objective: the paper's five in fixed order, then others in order of appearance.

    The paper's five look the same whatever else a sweep holds. Further ones have other markers, and no two of the first
    77 share colour, marker and line style; colours alone repeat from the ninth on.
    """
    present = list(dict.fromkeys(objectives))
    known = [name for name in KNOWN_STYLES if name in present]
    others = [name for name in present if name not in KNOWN_STYLES]
    return {name: KNOWN_STYLES[name] for name in known} | {name: _further(name, k) for k, name in enumerate(others)}


def _further(name: str, k: int) -> ObjectiveStyle:
    colour, marker = _FURTHER_COLOURS[k % len(_FURTHER_COLOURS)], _FURTHER_MARKERS[k % len(_FURTHER_MARKERS)]
    return ObjectiveStyle(name, colour, marker, DASHES[(k // len(_FURTHER_COLOURS) + 1) % len(DASHES)])


def objective_name(objective: str) -> str:
    """The name to print, e.g. `α-DPO` for `alpha_dpo`; an unknown objective is its own name."""
    return KNOWN_STYLES[objective].name if objective in KNOWN_STYLES else objective


def setting_label(hyperparameters: dict[str, str], only: Iterable[str] | None = None) -> str:
    """Hyperparameters as printed, e.g. `β=0.1 α=0.05 λ=0.2 rank.length_bias=0.05`, restricted to `only`."""
    wanted = set(hyperparameters if only is None else only)
    names = [name for name in HYPERPARAMETER_COLUMNS if name in hyperparameters and name in wanted]
    names += sorted(name for name in hyperparameters if name not in HYPERPARAMETER_COLUMNS and name in wanted)
    return " ".join(f"{HYPERPARAMETER_SYMBOLS.get(name, name)}={hyperparameters[name]}" for name in names)


def varying_hyperparameters(rows: Iterable[ResultRow]) -> list[str]:
    """Names of the hyperparameters with more than one value in `rows`; a missing one counts as a value."""
    settings = [row.hyperparameters for row in rows]
    names = dict.fromkeys(name for setting in settings for name in setting)
    return [name for name in names if len({setting.get(name) for setting in settings}) > 1]
