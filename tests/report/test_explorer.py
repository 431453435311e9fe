"""The data of the report's interactive plot, and the verdict above it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from synthetic_results import synthetic_rows

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.report.explorer import PLOTLY_SYMBOLS, as_script, get_explorers
from aipo_lab.report.ordering import check_claims
from aipo_lab.report.pick_text import rule_text
from aipo_lab.report.samples import Sample
from aipo_lab.report.verdict import verdict_sentences
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_per_objective

MICRO = BENCHMARK_METRICS["micro"]


@pytest.fixture(scope="module")
def rows() -> list[ResultRow]:
    return synthetic_rows()


def test_every_complete_point_is_there_with_values_errors_and_look(rows: list[ResultRow]) -> None:
    selections = {"micro": select_per_objective(rows, parse_rule("corner"), MICRO)}
    (explorer,) = get_explorers(rows, ["micro"], selections)
    complete = [row for row in rows if row.state == "complete"]
    assert [(one["trial"], one["iteration"]) for one in explorer.points] == [(r.trial, r.iteration) for r in complete]
    for point, row in zip(explorer.points, complete, strict=True):
        assert point["values"][MICRO.win_rate] == row.value(MICRO.win_rate)
        assert point["errors"][MICRO.win_rate] == row.standard_error(MICRO.win_rate)
        assert explorer.looks[point["contender"]]["symbol"] in PLOTLY_SYMBOLS.values()
    picked = {(one["trial"], one["iteration"]) for one in explorer.points if one["picked"]}
    assert picked == {(one.best.trial, one.best.iteration) for one in selections["micro"].values()}
    assert explorer.ys[0].metric == MICRO.win_rate
    assert any(axis.relative for axis in explorer.xs)


def test_axes_that_no_point_has_are_not_offered(rows: list[ResultRow]) -> None:
    bare = [replace(row, metrics={k: v for k, v in row.metrics.items() if "lc_win" not in k}) for row in rows]
    (explorer,) = get_explorers(bare, ["micro"], {})
    assert "Length-controlled win rate (%)" not in [axis.label for axis in explorer.ys]
    only_base = [row for row in rows if row.iteration == 0]
    assert get_explorers(only_base, ["micro"], {}) == []


def test_text_of_models_cannot_leave_the_script(rows: list[ResultRow]) -> None:
    last = max(rows, key=lambda row: row.iteration)
    hostile = "</script><script>alert(1)</script><!-- \u2028 &amp;"
    sample = Sample(last.trial, last.objective, last.iteration, hostile, hostile, 3)
    explorers = get_explorers(rows, ["micro"], {}, [sample])
    text = as_script(explorers)
    assert "<" not in text and ">" not in text and "&" not in text and "\u2028" not in text
    (point,) = [one for one in json.loads(text)[0]["points"] if "response" in one]
    assert point["response"] == hostile


def test_the_verdict_answers_first_who_wins_and_then_what_it_cost(rows: list[ResultRow]) -> None:
    selections = select_per_objective(rows, parse_rule("corner"), MICRO)
    said = verdict_sentences(check_claims(rows, selections, MICRO), "micro", several=False)
    assert said[0].startswith("Who wins at the same length, by true quality?")
    assert said[-1].startswith("Against the base model, after iteration")
    assert "points for" in said[-1] and "tokens" in said[-1]
    assert not any("micro/" in sentence for sentence in said)
    assert verdict_sentences(check_claims(rows, {}, MICRO), "micro", several=False) == []


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("corner", "corner"),
        ("top_left", "top left"),
        ("max:micro/win_rate", "highest win rate by true quality"),
        ("max:win_rate", "highest win rate by true quality"),
        ("max:micro/lc_win_rate@length<=60", "highest length-controlled win rate at a length of at most 60"),
    ],
)
def test_rules_are_told_in_words(rule: str, words: str) -> None:
    assert rule_text(rule, MICRO) == words
