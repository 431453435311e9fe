"""What `aipo-lab why` shows: which stages of a trial, or of a kind, would be computed, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from aipo_lab.console.running import say
from aipo_lab.core.config import suggest
from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.pipeline.graph import TrialGraph
from aipo_lab.stages.definition import STAGE_NAMES
from aipo_lab.sweeps.differences import ABSENT
from aipo_lab.sweeps.explain import Explainer, Reason
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.foreseen import foresee_graph
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.points import iteration_number, parse_point
from aipo_lab.sweeps.sweep import load_plannable

LEAST_KEY_CHARACTERS = 4


def graphs_of_file(
    file: Path, profile: str | None, overrides: Sequence[tuple[str, Any]], store_root: Path
) -> tuple[Mapping[str, TrialGraph], Store]:
    """The trials' graphs of a sweep file, recipe or profile, and the store; raises `UserError` as `plan` does."""
    return foresee_graph(load_plannable(file, profile, overrides)).graph.trials, Store(store_root)


def graphs_of_folder(folder: Path, store_root: Path | None) -> tuple[Mapping[str, TrialGraph], Store]:
    """The trials' graphs of an output folder, and its store; raises `UserError` where it holds no sweep."""
    sweep, found, saved_root = SweepFolder(folder).load_sweep()
    return build_graph(sweep, found).trials, Store(store_root or saved_root)


def show_why(what: str, trials: Mapping[str, TrialGraph], store: Store, as_json: bool) -> None:
    """Explain a trial, TRIAL@ITERATION, a stage's name, or STAGE/KEY (the key's first characters are enough).

    `trials` are the graphs of the sweep. Raises `UserError` where `what` is none of them.
    """
    chosen, reasons = _explained(what, trials, store)
    if as_json:
        print(json.dumps({"what": what, "stages": [_values(reason, chosen) for reason in reasons]}, ensure_ascii=False))
        return
    _print(Console(), what, reasons, chosen)


def _explained(what: str, trials: Mapping[str, TrialGraph], store: Store) -> tuple[Explainer, list[Reason]]:
    if (graph := _trial(what, trials)) is not None:
        explainer = Explainer({what: graph}, store)
        return explainer, [explainer.explain(node) for node in explainer.nodes.values()]
    explainer = Explainer(trials, store)
    stage, slash, key = what.partition("/")
    if stage not in STAGE_NAMES:
        known = [*trials, *STAGE_NAMES]
        raise UserError(f"{what!r} is no trial and no stage of this sweep; {suggest(what, known)}")
    if slash and len(key) < LEAST_KEY_CHARACTERS:
        raise UserError(f"{what!r}: give at least {LEAST_KEY_CHARACTERS} characters of the key")
    nodes = [node for node in explainer.nodes.values() if node.stage == stage and node.key.startswith(key)]
    if not nodes:
        having = f"whose key begins with {key}" if slash else "of that kind"
        raise UserError(f"{what!r}: this sweep has no stage {having}; `aipo-lab plan` lists what it has")
    return explainer, [explainer.explain(node) for node in nodes]


def _trial(what: str, trials: Mapping[str, TrialGraph]) -> TrialGraph | None:
    """The graph of the trial, up to an iteration where one is named; None if `what` names no trial."""
    point = parse_point(what)
    if what in trials or point is None or point[0] not in trials:
        return trials.get(what)
    graph = trials[point[0]]
    t = iteration_number(what, point[1], len(graph.iterations) - 1)
    return TrialGraph(graph.iterations[: t + 1])


def _print(console: Console, what: str, reasons: list[Reason], explainer: Explainer) -> None:
    counts = Counter(reason.state for reason in reasons)
    missing = len(reasons) - counts["stored"]
    say(console, f"{what}: {len(reasons)} stages, {counts['stored']} stored, {missing} to compute")
    if len(reasons) == 1:
        say(console, f"  {reasons[0].node.reference}: {reasons[0].text}")
    own = {reason.node.reference: reason for reason in reasons if reason.state not in ("stored", "follows")}
    for reason in reasons:
        for root in reason.roots:
            own.setdefault(root.reference, explainer.explain(root))
    for reference, reason in own.items():
        if len(reasons) > 1 or reference != reasons[0].node.reference:
            say(console, f"  {explainer.titles[reference]} ({reference}): {reason.text}")
    if counts["follows"] and len(reasons) > 1:
        say(console, f"  the other {counts['follows']} follow from {'it' if len(own) == 1 else 'these'}")


def _values(reason: Reason, explainer: Explainer) -> dict[str, Any]:
    relative = reason.relative
    near: dict[str, Any] = {}
    if relative is not None:
        changes = [*relative.differences.settings, *relative.differences.plugins, *relative.differences.inputs]
        named = [{"name": one.name, "here": _or_none(one.here), "there": _or_none(one.there)} for one in changes]
        near = {"nearest": f"{reason.node.stage}/{relative.key}", "changes": named}
    return {
        "stage": reason.node.reference,
        "title": explainer.titles[reason.node.reference],
        "state": reason.state,
        "reason": reason.text,
        "follows_from": [root.reference for root in reason.roots],
        **near,
    }


def _or_none(value: Any) -> Any:
    return None if value is ABSENT else value
