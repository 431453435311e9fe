"""What stages warned of, with the trials and iterations it concerns: read from the summaries in the store."""

from __future__ import annotations

from collections.abc import Mapping

from aipo_lab.core.store import Store
from aipo_lab.pipeline.graph import TrialGraph
from aipo_lab.sweeps.collect import find_artifact

WARNING_STAGES = {"instruct": "prompts", "train": "training"}
"""The stages whose summaries may hold warnings, and what they are called in front of one."""


def stage_warnings(trials: Mapping[str, TrialGraph], store: Store) -> list[str]:
    """One sentence per warning of a finished stage that warns; what trials share is said once."""
    found: dict[str, str] = {}
    for name, graph in trials.items():
        for iteration in graph.iterations:
            for stage, title in WARNING_STAGES.items():
                node = iteration.steps.get(stage)
                artifact = None if node is None else find_artifact(store, node)
                if node is None or artifact is None:
                    continue
                for warning in artifact.summary.get("warnings", []):
                    found.setdefault(f"{node.key} {warning}", f"{title} of {name}, iteration {iteration.t}: {warning}")
    return list(found.values())
