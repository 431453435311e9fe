"""The tables of contenders: their numbers, their win rates at matched lengths, and their paired differences."""

from __future__ import annotations

import itertools

from aipo_lab.figures.palette import objective_name, setting_label
from aipo_lab.report.contenders import Contender, Field
from aipo_lab.report.effect_text import MISSING, plus_minus, signed
from aipo_lab.report.tables import Cell, Table, number_cell
from aipo_lab.results.effects import Effect

MOST_ITERATIONS = 6
"""Columns of a table of matched lengths: the last iterations, where there are more."""


def contender_table(field: Field) -> Table:
    """Each objective's configuration at the last common iteration: means over its seeds, with 95 % intervals."""
    shown = _metrics(field)
    columns = ["objective", "hyperparameters", "seeds", "iteration", *(label for label, _ in shown)]
    rows = [
        [
            *_lead(one),
            number_cell(one.n_seeds, 0),
            number_cell(field.iteration, 0),
            *(effect_cell(field.effect(one, metric)) for _, metric in shown),
        ]
        for one in field.contenders
    ]
    return Table(columns, rows)


def matched_tables(field: Field) -> list[tuple[str, Table]]:
    """By the judge and by true quality: the win rate at the length that all reached by each iteration."""
    iterations = sorted(field.matched_lengths)[-MOST_ITERATIONS:]
    if not iterations or len(field.contenders) < 2:
        return []
    columns = ["objective", *(f"iteration {t}: at {field.matched_lengths[t]:.1f}" for t in iterations)]
    return [
        (label, Table(columns, [
            [Cell(objective_name(one.objective)), *(effect_cell(field.matched(one, metric, t)) for t in iterations)]
            for one in field.contenders
        ]))
        for label, metric in _rates(field)
    ]  # fmt: skip


def difference_table(field: Field) -> Table:
    """All pairs, one less the other: length and win rates at the last iteration, and win rates at matched length."""
    rates, matched = _rates(field), field.matched_length
    columns = ["pair", field.metrics.length_label, *(label for label, _ in rates)]
    columns += [] if matched is None else [f"{label}, at {matched:.1f}" for label, _ in rates]
    table = Table(columns, [])
    for one, other in itertools.combinations(field.contenders, 2):
        assert field.metrics.length is not None
        cells = [Cell(f"{objective_name(one.objective)} – {objective_name(other.objective)}")]
        cells += [_signed_cell(field.difference(one, other, field.metrics.length))]
        cells += [_signed_cell(field.difference(one, other, metric)) for _, metric in rates]
        if matched is not None:
            cells += [_signed_cell(field.matched_difference(one, other, metric)) for _, metric in rates]
        table.rows.append(cells)
    return table


def effect_cell(effect: Effect | None, decimals: int = 1) -> Cell:
    """`value ± half of the 95 % interval`."""
    return Cell(MISSING) if effect is None else Cell(plus_minus(effect, decimals), effect.value)


def _signed_cell(effect: Effect | None) -> Cell:
    return Cell(MISSING) if effect is None else Cell(signed(effect), effect.value)


def _lead(one: Contender) -> list[Cell]:
    return [Cell(objective_name(one.objective)), Cell(setting_label(one.hyperparameters) or one.trial)]


def _metrics(field: Field) -> list[tuple[str, str]]:
    assert field.metrics.length is not None
    return [(field.metrics.length_label, field.metrics.length), *_rates(field)]


def _rates(field: Field) -> list[tuple[str, str]]:
    """The win rates, by the judge and by true quality where the contenders have it."""
    rates = [(field.metrics.win_rate_label, field.metrics.win_rate)]
    true = field.metrics.true_win_rate
    if true is not None and all(one.path.first.value(true) is not None for one in field.contenders):
        rates.append(("Win rate by true quality (%)", true))
    return rates
