"""The paper's tables beside a sweep as tidy data: Tables 1 to 5 number by number, Table 6 as what was searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.core.jsonl import write_text_atomically
from aipo_lab.figures.palette import HYPERPARAMETER_SYMBOLS, objective_name, setting_label, varying_hyperparameters
from aipo_lab.figures.trajectories import axis_label, best_points, mean_rows
from aipo_lab.report.paper_tables import PaperTable
from aipo_lab.report.table_files import latex_text
from aipo_lab.results.repeats import NORMAL_95
from aipo_lab.results.rows import HYPERPARAMETER_COLUMNS, ResultRow
from aipo_lab.results.rules import SelectionRule

if TYPE_CHECKING:
    from pandas import DataFrame

_CHOSEN, _REJECTED = (
    r"\frac{\pi_\theta(y_w|x)}{\pi_\mathrm{ref}(y_w|x)}",
    r"\frac{\pi_\theta(y_l|x)}{\pi_\mathrm{ref}(y_l|x)}",
)
_DPO = rf"-\log\sigma\left(\beta\log{_CHOSEN}-\beta\log{_REJECTED}\right)"
_ALPHA = (
    r"-\log\sigma\left(\beta\log\frac{\pi_\theta(y_w|x)}{\pi_\theta(y_l|x)}"
    r"-(1+\alpha)\beta\log\frac{\pi_\mathrm{ref}(y_w|x)}{\pi_\mathrm{ref}(y_l|x)}\right)"
)
LOSSES = {
    "dpo": _DPO,
    "dpo_nll": _DPO + r"-\frac{\alpha}{|y_w|}\log\pi_\theta(y_w|x)",
    "simpo": (
        r"-\log\sigma\left(\frac{\beta}{|y_w|}\log\pi_\theta(y_w|x)"
        r"-\frac{\beta}{|y_l|}\log\pi_\theta(y_l|x)-\gamma\right)"
    ),
    "alpha_dpo": _ALPHA,
    "aipo": _ALPHA + r"-\frac{\lambda}{|y_w|}\log\pi_\theta(y_w|x)",
}
"""The losses of Table 6 in LaTeX, for a pair."""

TABLE6_COLUMNS = ("objective", "loss", "searched", "trials", "best", "iteration", "win_rate", "win_rate_se", "length")


def get_table_data(table: PaperTable) -> DataFrame:
    """A line for each number.

    Columns: `source` (`paper` or `sweep`), `row`, `paper_row`, `seeds`, `metric`, `value`, `half_width`; the last is
    that of a 95 % interval, NaN where there is none; the paper's numbers have none.
    """
    import pandas as pd

    lines = [
        (
            source,
            row.label,
            row.label if source == "paper" else row.beside,
            row.seeds,
            metric,
            one.value,
            one.half_width,
        )
        for source, rows in (("paper", table.paper), ("sweep", table.sweep))
        for row in rows
        for metric, one in row.numbers.items()
    ]
    columns = ["source", "row", "paper_row", "seeds", "metric", "value", "half_width"]
    return pd.DataFrame(lines, columns=columns).astype({"half_width": float})


def get_table6_data(rows: Sequence[ResultRow], rule: SelectionRule, metrics: BenchmarkMetrics) -> DataFrame:
    """What was searched of each objective and what the rule picked: a line for each objective, in palette order.

    Columns: `objective`, `loss` (LaTeX, of the paper's), `searched` (values by hyperparameter, as text), `trials` that
    have a result, `best` (its settings), `iteration`, `win_rate`, `win_rate_se`, `length` (NaN without one).
    """
    import pandas as pd

    means = mean_rows(rows)
    lines = []
    for objective, chosen in best_points(means, rule, metrics).items():
        own = [row for row in means if row.contender == objective and row.state == "complete" and row.iteration > 0]
        best = chosen.best
        lines.append(
            {
                **{"objective": objective, "loss": LOSSES.get(objective, ""), "searched": _searched(own)},
                "trials": len({row.trial for row in own}),
                "best": setting_label(best.hyperparameters, varying_hyperparameters(own)) or "–",
                "iteration": best.iteration,
                "win_rate": best.value(metrics.win_rate),
                "win_rate_se": best.standard_error(metrics.win_rate),
                "length": best.value(metrics.length) if metrics.length else None,
            }
        )
    return pd.DataFrame(lines, columns=list(TABLE6_COLUMNS)).astype(dict.fromkeys(TABLE6_COLUMNS[-3:], float))


def _searched(rows: Sequence[ResultRow]) -> str:
    varying = varying_hyperparameters(rows)
    names = [name for name in rows[0].hyperparameters if name in HYPERPARAMETER_COLUMNS or name in varying]
    values = {name: dict.fromkeys(row.hyperparameters.get(name, "–") for row in rows) for name in names}
    return ", ".join(f"{HYPERPARAMETER_SYMBOLS.get(name, name)} ∈ {{{', '.join(values[name])}}}" for name in names)


def write_table6(data: DataFrame, metrics: BenchmarkMetrics, folder: Path) -> list[Path]:
    """Write `table6.csv`, `.md` and `.tex`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    length = axis_label(metrics.length) if metrics.length else "Length"
    headings = ["Objective", "Searched", "Trials", "Best", "Iteration", axis_label(metrics.win_rate), length]
    cells = [_cells(one) for one in data.to_dict("records")]
    texts = {
        "csv": data.to_csv(index=False),
        "md": "\n".join(["# Table 6: what was searched of each objective", "", *_markdown(headings, cells), ""]),
        "tex": _latex(headings, cells, list(data["loss"])),
    }
    for end, text in texts.items():
        write_text_atomically(folder / f"table6.{end}", text)
    return [folder / f"table6.{end}" for end in texts]


def _cells(one: dict[str, float | str]) -> list[str]:
    win, error, length = (float(one[name]) for name in TABLE6_COLUMNS[-3:])
    rate = f"{win:.1f}" + ("" if error != error else f" ± {NORMAL_95 * error:.1f}")
    length_text = "–" if length != length else f"{length:.1f}"
    lead = [objective_name(str(one["objective"])), str(one["searched"]), str(one["trials"]), str(one["best"])]
    return [*lead, str(one["iteration"]), rate, length_text]


def _markdown(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---", "---", "---:", "---", "---:", "---:", "---:"], *cells]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]


def _latex(headings: Sequence[str], cells: Sequence[Sequence[str]], losses: Sequence[str]) -> str:
    """The rows with the losses of the paper in a column of their own; needs the package booktabs."""
    lines = [
        " & ".join([latex_text(row[0]), f"${loss}$" if loss else "", *map(latex_text, row[1:])]) + r" \\"
        for row, loss in zip(cells, losses, strict=True)
    ]
    head = " & ".join([headings[0], "Loss", *map(latex_text, headings[1:])]) + r" \\"
    return "\n".join(
        [
            *(r"\begin{table}[t]", r"\centering\small", r"\begin{tabular}{lllrlrrr}", r"\toprule", head, r"\midrule"),
            *lines,
            *(r"\bottomrule", r"\end{tabular}", r"\caption{What was searched of each objective.}"),
            *(r"\label{tab:table6}", r"\end{table}", ""),
        ]
    )
