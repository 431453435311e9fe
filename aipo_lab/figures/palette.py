"""How objectives look and are called: colour-blind-safe colours, markers, names, order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aipo_lab.results.rows import HYPERPARAMETER_COLUMNS, ResultRow

# Okabe and Ito, "Color Universal Design" (2008); their yellow is left out: it vanishes on white paper.
BLUE, ORANGE, VERMILLION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
PURPLE, SKY_BLUE, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#7F7F7F"


@dataclass(frozen=True)
class ObjectiveStyle:
    """Display name, colour and matplotlib marker of one objective."""

    name: str
    colour: str
    marker: str


KNOWN_STYLES: dict[str, ObjectiveStyle] = {
    "dpo": ObjectiveStyle("DPO", BLUE, "o"),
    "dpo_nll": ObjectiveStyle("DPO+NLL", SKY_BLUE, "s"),
    "simpo": ObjectiveStyle("SimPO", ORANGE, "^"),
    "alpha_dpo": ObjectiveStyle("α-DPO", GREEN, "D"),
    "aipo": ObjectiveStyle("AIPO", VERMILLION, "v"),
}
_FURTHER = [
    *((PURPLE, "P"), (BLACK, "X"), (GREY, "p"), (BLUE, "<"), (ORANGE, ">"), (GREEN, "h")),
    *((SKY_BLUE, "d"), (VERMILLION, "8"), (PURPLE, "H")),
]
_SYMBOLS = {"beta": "β", "alpha": "α", "gamma": "γ", "lambda": "λ"}
# For lines that are not objectives (the settings within one objective): each differs in lightness as well.
SETTING_COLOURS = (BLACK, BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY_BLUE)
SETTING_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def objective_styles(objectives: Iterable[str]) -> dict[str, ObjectiveStyle]:
    """The style of each objective: the paper's five in fixed order, then others in order of appearance.

    The paper's five look the same whatever else a sweep holds; further ones cycle through the rest.
    """
    present = list(dict.fromkeys(objectives))
    known = [name for name in KNOWN_STYLES if name in present]
    others = [name for name in present if name not in KNOWN_STYLES]
    further = {name: ObjectiveStyle(name, *_FURTHER[k % len(_FURTHER)]) for k, name in enumerate(others)}
    return {name: KNOWN_STYLES[name] for name in known} | further


def objective_name(objective: str) -> str:
    """The name to print, e.g. `α-DPO` for `alpha_dpo`; an unknown objective is its own name."""
    return KNOWN_STYLES[objective].name if objective in KNOWN_STYLES else objective


def setting_label(hyperparameters: dict[str, str], only: Iterable[str] | None = None) -> str:
    """Hyperparameters as printed, e.g. `β=0.1 α=0.05 λ=0.2 rank.length_bias=0.05`, restricted to `only`."""
    wanted = set(hyperparameters if only is None else only)
    names = [name for name in HYPERPARAMETER_COLUMNS if name in hyperparameters and name in wanted]
    names += sorted(name for name in hyperparameters if name not in HYPERPARAMETER_COLUMNS and name in wanted)
    return " ".join(f"{_SYMBOLS.get(name, name)}={hyperparameters[name]}" for name in names)


def varying_hyperparameters(rows: Iterable[ResultRow]) -> list[str]:
    """Names of the hyperparameters with more than one value in `rows`; a missing one counts as a value."""
    settings = [row.hyperparameters for row in rows]
    names = dict.fromkeys(name for setting in settings for name in setting)
    return [name for name in names if len({setting.get(name) for setting in settings}) > 1]
