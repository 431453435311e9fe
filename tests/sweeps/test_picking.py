"""Picks of a sweep: made on one half of each benchmark's prompts, reported on the other, and written as JSON."""

from __future__ import annotations

import json

import numpy as np
from simulated_sweeps import simulated, wins_at

from aipo_lab.results.rules import parse_rule
from aipo_lab.sweeps.picking import pick_all, picks_record

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
