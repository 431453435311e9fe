"""`reference`, `data` and `start`: what each changes in the graph, and what it shares with Algorithm 1."""

from __future__ import annotations

from typing import Any

import pytest

from aipo_lab.benchmarks.resources import BenchmarkResources
from aipo_lab.core.errors import UserError
from aipo_lab.pipeline.base_model import BaseModel
from aipo_lab.pipeline.graph import GraphBuilder, TrialGraph
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.stages.definition import Runtime

DEFAULTS: dict[str, Any] = {"reference": "previous", "data": "fresh", "start": "previous"}


def graph(**settings: Any) -> TrialGraph:
    recipe = build_recipe(profile_values("micro"), [("iterations", 3), *settings.items()])
    return GraphBuilder(recipe, BaseModel(), Runtime(), BenchmarkResources({}, {})).build()


def inputs(made: TrialGraph, t: int, stage: str) -> dict[str, str]:
    return dict(made.iterations[t].steps[stage].request.inputs)


def policies(made: TrialGraph) -> list[str]:
    return [iteration.policy.reference for iteration in made.iterations]


def test_the_defaults_are_algorithm_1_with_the_keys_it_always_had() -> None:
    made = graph()
    assert graph(**DEFAULTS).nodes().keys() == made.nodes().keys()
    for t in range(3):
        for stage in ("reference", "train"):
            assert inputs(made, t, stage)["policy"] == policies(made)[t]
            assert inputs(made, t, stage)["pairs"] == made.iterations[t].steps["pair"].reference
    # as it is without any axis: a change here computes every stored trial again
    assert policies(made)[3] == "train/ee83463d171520569c56ad73"


def test_every_axis_shares_the_first_iteration_and_what_follows_from_it() -> None:
    made = graph()
    for change in ({"reference": "base"}, {"reference": "ema"}, {"data": "accumulated"}, {"start": "base"}):
        other = graph(**change)
        assert policies(other)[:2] == policies(made)[:2]
        assert other.iterations[1].steps["pair"].reference == made.iterations[1].steps["pair"].reference
        assert not set(policies(other)[2:]) & set(policies(made)[2:])


def test_each_axis_changes_its_own_input() -> None:
    base = graph(reference="base")
    assert [inputs(base, t, "reference")["policy"] for t in range(3)] == [policies(base)[0]] * 3
    assert [inputs(base, t, "train")["policy"] for t in range(3)] == policies(base)[:3]
    anew = graph(start="base")
    assert [inputs(anew, t, "train")["policy"] for t in range(3)] == [policies(anew)[0]] * 3
    assert [inputs(anew, t, "reference")["policy"] for t in range(3)] == policies(anew)[:3]
    more = graph(data="accumulated")
    pairs = [iteration.steps["pair"].reference for iteration in more.iterations[:3]]
    for stage in ("reference", "train"):
        assert inputs(more, 0, stage)["pairs"] == pairs[0]
        assert inputs(more, 2, stage)["pairs"] == more.iterations[2].steps["accumulate"].reference
    assert inputs(more, 2, "accumulate") == {f"pairs_{t}": pair for t, pair in enumerate(pairs)}


def test_the_average_is_of_all_policies_so_far() -> None:
    made = graph(reference="ema", ema_decay=0.25)
    assert "ema" not in made.iterations[0].steps
    first, second = (made.iterations[t].steps["ema"] for t in (1, 2))
    assert dict(first.request.inputs) == {"average": policies(made)[0], "policy": policies(made)[1]}
    assert dict(second.request.inputs) == {"average": first.reference, "policy": policies(made)[2]}
    assert inputs(made, 2, "reference")["policy"] == second.reference
    assert second.request.config == {"decay": 0.25}
    order = list(made.nodes())
    assert all(
        order.index(needed) < order.index(ref)
        for ref, node in made.nodes().items()
        for needed in node.request.inputs.values()
    )
    free = graph(reference="ema", **{"objective.name": "simpo"})
    assert not {"ema", "reference"} & {node.stage for node in free.nodes().values()}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reference": "first"}, "reference: .*'previous', 'base' or 'ema'"),
        ({"data": "all"}, "data: .*'fresh' or 'accumulated'"),
        ({"start": "ema"}, "start: .*'previous' or 'base'"),
        ({"ema_decay": 0.5}, "ema_decay: has no effect with reference 'previous'"),
        ({"reference": "ema", "ema_decay": 1.5}, "ema_decay: .*less than or equal to 1"),
    ],
)
def test_what_is_not_valid_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        graph(**settings)
