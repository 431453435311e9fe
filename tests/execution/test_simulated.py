"""List scheduling of a graph on a number of devices: nothing starts before its inputs, or on devices that are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.execution.simulated import SimulatedStage, simulate


def test_stages_that_wait_for_each_other_add_up_and_others_run_beside_them() -> None:
    chain = {"a": SimulatedStage(1, 1), "b": SimulatedStage(2, 1, ("a",)), "c": SimulatedStage(4, 1, ("b",))}
    assert simulate(chain, 8).wall_s == 7
    beside = chain | {"d": SimulatedStage(5, 1)}
    assert simulate(beside, 1).wall_s == 12
    assert simulate(beside, 2).wall_s == 7
    assert simulate(beside, 2).device_s == simulate(beside, 1).device_s == 12


def test_a_stage_takes_all_its_devices() -> None:
    wide = {"a": SimulatedStage(1, 8), "b": SimulatedStage(1, 8), "c": SimulatedStage(1, 1)}
    assert simulate(wide, 8).wall_s == 3
    assert simulate(wide, 9).wall_s == 2
    assert simulate(wide, 17).wall_s == 1
    with pytest.raises(AssertionError, match="more devices than there are"):
        simulate(wide, 7)


def test_the_first_in_order_that_fits_starts_and_what_needs_no_device_never_waits() -> None:
    stages = {"x": SimulatedStage(3, 1), "wide": SimulatedStage(1, 2), "narrow": SimulatedStage(1, 1)}
    ends = simulate(stages | {"judge": SimulatedStage(2, 0)}, 2).ends_s
    assert ends == {"x": 3, "narrow": 1, "wide": 4, "judge": 2}


def test_as_many_workers_are_for_stages_without_a_device_as_for_those_with_some() -> None:
    asked = {f"judge{i}": SimulatedStage(2, 0) for i in range(4)}
    assert simulate(asked, 0, 1).wall_s == 8
    assert simulate(asked, 0, 3).wall_s == 4
    computed = {f"train{i}": SimulatedStage(3, 1) for i in range(2)}
    assert simulate(asked | computed, 8, 1).ends_s == {
        **{f"judge{i}": 2 * i + 2 for i in range(4)},
        **{"train0": 3, "train1": 6},
    }


def test_inputs_that_are_not_in_the_graph_are_made_already() -> None:
    assert simulate({"a": SimulatedStage(2, 1, ("stored",))}, 1).wall_s == 2
    assert simulate({}, 4).wall_s == 0


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.sets(st.integers(0, 20))), max_size=20),
    st.integers(4, 9),
    st.none() | st.integers(1, 5),
)
def test_no_schedule_beats_its_longest_chain_or_its_devices(rows: list, n_devices: int, n_workers: int | None) -> None:
    stages = {
        str(i): SimulatedStage(seconds, devices, tuple(str(j) for j in before if j < i))
        for i, (seconds, devices, before) in enumerate(rows)
    }
    schedule = simulate(stages, n_devices, n_workers)
    chains: dict[str, float] = {}
    for name, stage in stages.items():
        chains[name] = stage.duration_s + max((chains[one] for one in stage.inputs), default=0)
        starts = schedule.ends_s[name] - stage.duration_s
        assert all(schedule.ends_s[one] <= starts for one in stage.inputs)
    assert schedule.wall_s >= max(chains.values(), default=0)
    assert schedule.wall_s >= schedule.device_s / n_devices
    for holds in (True, False):
        ends = [
            (schedule.ends_s[name], stage.duration_s) for name, stage in stages.items() if holds == (stage.devices > 0)
        ]
        for end_s, duration_s in ends:
            beside = sum(other_s - length_s < end_s <= other_s for other_s, length_s in ends)
            assert duration_s == 0 or beside <= (n_workers or len(ends))
    assert schedule.wall_s <= sum(stage.duration_s for stage in stages.values())
