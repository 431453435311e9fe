"""The two halves of a benchmark's prompts: a trial is picked on one and reported on the other.

The winner's value on the prompts that made it win is too good: whatever luck it had there helped to pick it. On
prompts that had no say its mean is unbiased (Cox 1975, data splitting). A prompt's half follows from its id alone, so
that it is the same for every trial, in every session, and whatever else the benchmark asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.results.per_prompt import Key, PromptValues
from aipo_lab.results.rows import ResultRow

FEWEST_PROMPTS = 100
"""With fewer, the half that picks tells only large differences apart: 50 wins or losses have an error of 7 points."""


def picks(prompt_id: str) -> bool:
    """Whether a prompt belongs to the half that picks: by one bit of the SHA-256 of its id."""
    return hashlib.sha256(f"half of {prompt_id}".encode()).digest()[0] % 2 == 0


def with_halves(rows: Sequence[ResultRow], metrics: BenchmarkMetrics, values: PromptValues) -> list[ResultRow]:
    """The rows with `picked_on` and `reported_on`: one benchmark's headline metrics, their errors, and `<benchmark>/n`.

    Unchanged where a complete row's headline metrics are not all known prompt by prompt, or fewer than
    `FEWEST_PROMPTS` prompts are common to all: then everything is picked and reported on all prompts.
    """
    complete = [row for row in rows if row.state == "complete" and row.value(metrics.win_rate) is not None]
    keys = [(row.trial, row.iteration) for row in complete]
    measured = [name for name in _headline(metrics) if any(row.value(name) is not None for row in complete)]
    columns = {metric: values.common(keys, metric) for metric in measured}
    known = {metric: common for metric, common in columns.items() if common is not None}
    if not known or len(known) < len(columns) or any(len(one.ids) < FEWEST_PROMPTS for one in known.values()):
        return list(rows)
    halves: dict[Key, tuple[dict[str, float], dict[str, float]]] = {key: ({}, {}) for key in keys}
    for metric, common in known.items():
        picking = np.array([picks(one) for one in common.ids])
        for side, chosen in enumerate((picking, ~picking)):
            means = common.values[:, chosen].mean(axis=1)
            errors = common.values[:, chosen].std(axis=1, ddof=1) / np.sqrt(chosen.sum())
            n = {f"{metric.split('/')[0]}/n": float(chosen.sum())}
            for key, mean, error in zip(keys, means, errors, strict=True):
                halves[key][side].update({metric: float(mean), f"{metric}_se": float(error)} | n)
    return [_with(row, halves.get((row.trial, row.iteration))) for row in rows]


def _with(row: ResultRow, halves: tuple[dict[str, float], dict[str, float]] | None) -> ResultRow:
    if halves is None or row.state != "complete":
        return row
    return replace(row, picked_on=row.picked_on | halves[0], reported_on=row.reported_on | halves[1])


def _headline(metrics: BenchmarkMetrics) -> list[str]:
    named = (metrics.win_rate, metrics.length, metrics.lc_win_rate, metrics.true_win_rate, metrics.quality)
    return [metric for metric in named if metric is not None]
