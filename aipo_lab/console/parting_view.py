"""What `aipo-lab plan --diff A B` shows: the first stage at which two trials part, and what differs there."""

from __future__ import annotations

from rich.console import Console

from aipo_lab.console.running import say
from aipo_lab.core.config import suggest
from aipo_lab.core.errors import UserError
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.differences import differences, identity_of
from aipo_lab.sweeps.explain import first_parting
from aipo_lab.sweeps.foreseen import foresee_graph
from aipo_lab.sweeps.sweep import Sweep


def show_parting(sweep: Sweep, one: str, other: str) -> None:
    """Print where the trials `one` and `other` part; raises `UserError` if the sweep has no such trial."""
    graphs = foresee_graph(sweep).graph.trials
    for name in (one, other):
        if name not in graphs:
            raise UserError(f"{sweep.name} has no trial {name!r}; {suggest(name, list(graphs))}")
    console = Console()
    ours, theirs = graphs[one].nodes(), graphs[other].nodes()
    shared = len(ours.keys() & theirs.keys())
    say(console, f"{one} and {other} share {shared} of {len(ours)} and {len(theirs)} stages")
    parting = first_parting(graphs[one], graphs[other])
    if parting is None:
        say(console, "they are the same in every stage")
        return
    step, t, a, b = parting
    say(console, f"they part at {step} of iteration {t}: {_what_differs(one, other, a, b)}")


def _what_differs(one: str, other: str, a: StageNode | None, b: StageNode | None) -> str:
    if a is None or b is None:
        return f"{other if a is None else one} has this stage, {one if a is None else other} has not"
    return "; ".join(differences(a.request, identity_of(b.request)).texts())
