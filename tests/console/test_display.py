"""What a sweep's display says of stages."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from aipo_lab.console.display import SweepDisplay
from aipo_lab.core.store import Store
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.remaining import TimeEstimate
from aipo_lab.sweeps.sweep import single_run


@pytest.mark.parametrize(("made", "said"), [("scores", "judge of micro in"), ("steps", "train in")])
def test_a_failed_stage_is_named_with_its_benchmark_and_its_reason_as_it_is(made: str, said: str, store: Store) -> None:
    graph = build_graph(single_run("micro"))
    ((trial, one),) = graph.trials.items()
    node = getattr(one.iterations[0], made)["micro" if made == "scores" else "train"]
    written = StringIO()
    with SweepDisplay(Console(file=written, width=200), graph, [], TimeEstimate(graph, store, 1)) as display:
        display.started(node)
        display.failed(node, "the judge said [/INST] and [b]\nand more")
    assert written.getvalue() == f"failed {said} {trial}, iteration 0: the judge said [/INST] and [b]\n"
