"""Picks of a sweep: made on one half of each benchmark's prompts, reported on the other, and written as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from made_up_store import make_up
from simulated_sweeps import simulated, wins_at

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.store import Store
from aipo_lab.figures.pareto import get_pareto_data
from aipo_lab.figures.trajectories import mean_rows
from aipo_lab.results.halves import picks as picks_half
from aipo_lab.results.per_prompt import prompt_values
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_best
from aipo_lab.sweeps.headline import get_headline
from aipo_lab.sweeps.picking import pick_all, picks_record
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.sweep import load_sweep

MICRO = BENCHMARK_METRICS["micro"]
WIN = "micro/judged_win_rate"
CORNER = parse_rule("corner")


def simulation(n: int = 240):
    random = np.random.default_rng(0)
    level = np.full(n, 20.0)
    trials = {name: [(wins_at(random, rate, n), level)] for name, rate in (("a", 85), ("b", 60), ("c", 55))}
    return simulated(trials, objectives={"a": "aipo", "b": "dpo", "c": "dpo"})


def test_the_file_says_what_was_picked_on_which_prompts_and_how_sure_that_is():
    rows, values = simulation()
    picks = pick_all(rows, ["micro"], CORNER, values, split=True)
    record = json.loads(json.dumps(picks_record(picks)))["micro"]
    best = record["overall"]
    assert (best["rule"], best["trial"], best["iteration"]) == ("corner", "a", 1)
    assert best["reported_on_other_prompts"] is True
    assert best["picked_on"]["micro/n"] + best["reported"]["micro/n"] == 240
    assert best["reported"][WIN] == picks.rows[1].reported_on[WIN] != rows[1].metrics[WIN]
    certainty = best["certainty"]
    assert certainty["n_points"] == 3
    assert certainty["n_prompts"] == best["reported"]["micro/n"]
    assert 0.5 < certainty["stability"] <= 1
    assert sum(certainty["contenders"].values()) > 0.999
    assert {"trial": "a", "iteration": 1} in certainty["others"].values()
    assert list(record["by_objective"]) == ["aipo", "dpo"]


def test_a_sweep_may_pick_and_report_on_all_prompts():
    rows, values = simulation()
    picks = pick_all(rows, ["micro"], CORNER, values, split=False)
    best = picks_record(picks)["micro"]["overall"]
    assert picks.rows == rows
    assert (best["reported_on_other_prompts"], best["reported"]) == (False, rows[1].metrics)
    assert best["certainty"]["n_prompts"] == 240


def test_every_surface_shows_the_pick_that_was_made_on_the_picking_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two trials one wins on the picking half, the other by more on the rest, hence on all prompts."""
    (tmp_path / "s.yaml").write_text("name: s\nrecipe: {iterations: 1}\nspace: [{objective: dpo, beta: [0.1, 0.3]}]\n")
    study = Study.open(load_sweep(tmp_path / "s.yaml"), Store(tmp_path / "store"), tmp_path / "out", tmp_path)
    make_up(study.store, study.graph.nodes.values())
    here, there = (trial.name for trial in study.sweep.trials)
    rows = [replace(row, metrics=row.metrics | averages(row.trial, row.iteration, here)) for row in study.rows()]
    known = prompt_values({(row.trial, row.iteration): by_prompt(row.trial, row.iteration, here) for row in rows})
    monkeypatch.setattr(Study, "prompt_values", lambda _: known)
    monkeypatch.setattr(Study, "rows", lambda _: rows)
    picked = study.picks(rows).by_benchmark["micro"].overall
    on_all = select_best(rows, CORNER, MICRO)
    assert picked is not None and on_all is not None
    assert (picked.best.trial, on_all.best.trial) == (here, there)
    headline = get_headline(study, rows, "aipo-lab")
    assert headline.tags["best_trial"] == here
    drawn = get_pareto_data(study.pickable_rows(), MICRO, CORNER)
    assert set(drawn[drawn["best"]]["trial"]) == {here}


IDS = [str(number) for number in range(200)]
HEADLINE = (MICRO.win_rate, MICRO.lc_win_rate, MICRO.true_win_rate, MICRO.quality, MICRO.length)


def by_prompt(trial: str, iteration: int, here: str) -> dict[str, dict[str, float]]:
    """60 % against 55 % where picking is done, 55 % against 80 % elsewhere; lengths are equal."""
    sides = {True: 60.0 if trial == here else 55.0, False: 55.0 if trial == here else 80.0}
    rates = {one: sides[picks_half(one)] if iteration else 50.0 for one in IDS}
    lengths = dict.fromkeys(IDS, 20.0)
    return {str(name): lengths if name == MICRO.length else rates for name in HEADLINE}


def averages(trial: str, iteration: int, here: str) -> dict[str, float]:
    return {name: fmean(values.values()) for name, values in by_prompt(trial, iteration, here).items()}


def test_the_mean_of_seeds_in_a_figure_has_the_mean_of_their_halves() -> None:
    rows = [
        ResultRow(f"t{seed}", "dpo", {"seed": seed}, 1, "complete", {WIN: value}, picked_on={WIN: value + 1})
        for seed, value in (("0", 60.0), ("1", 70.0))
    ]
    (one,) = mean_rows(rows)
    assert (one.metrics[WIN], one.picked_on[WIN]) == (65.0, 66.0)
