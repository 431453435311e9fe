"""The paper's tables beside a sweep's as files: CSV for programs, Markdown for reading, LaTeX for papers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from aipo_lab.core.jsonl import write_text_atomically
from aipo_lab.report.paper_tables import Number, PaperTable, TableRow
from aipo_lab.results.rows import csv_text

NOTE = (
    "± is half a 95 % interval: over seeds and prompts where a row has several seeds, else over prompts (or pairs) "
    "alone. The paper prints no intervals. Models, data and benchmarks differ between the two blocks."
)


def write_paper_table(table: PaperTable, folder: Path) -> list[Path]:
    """Write `<name>.csv`, `.md` and `.tex` into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"csv": as_csv(table), "md": as_markdown(table), "tex": as_latex(table)}
    paths = {end: folder / f"{table.name}.{end}" for end in texts}
    for end, text in texts.items():
        write_text_atomically(paths[end], text)
    return list(paths.values())


def as_csv(table: PaperTable) -> str:
    """One line a row: `source` is `paper` or `sweep`; columns have the names of results.csv.

    `_low` and `_high` are the ends of 95 % intervals.
    """
    metrics = list(dict.fromkeys([*table.paper_columns, *table.sweep_columns]))
    ends = [name for metric in metrics for name in (metric, f"{metric}_low", f"{metric}_high")]
    lines = [["source", "row", "paper_row", "seeds", *ends]]
    for source, rows in (("paper", table.paper), ("sweep", table.sweep)):
        for row in rows:
            beside = row.label if source == "paper" else row.beside
            seeds = "" if source == "paper" else str(row.seeds)
            cells = [cell for metric in metrics for cell in _csv_cells(row.numbers.get(metric))]
            lines.append([source, row.label, beside, seeds, *cells])
    return csv_text(lines)


def _csv_cells(number: Number | None) -> list[str]:
    if number is None:
        return ["", "", ""]
    half = number.half_width
    ends = ["", ""] if half is None else [f"{number.value - half:.6g}", f"{number.value + half:.6g}"]
    return [f"{number.value:.6g}", *ends]


def as_markdown(table: PaperTable) -> str:
    """Two tables under headings of their own."""
    parts = [f"# {_title(table)}", ""]
    for heading, columns, rows, own in _blocks(table):
        parts += [f"## {heading}", ""]
        headings = ["row", *(["beside the paper's", "seeds"] if own else []), *columns.values()]
        parts.append("| " + " | ".join(map(_cell_text, headings)) + " |")
        parts.append("|" + "---|" * (len(headings) - len(columns)) + "---:|" * len(columns))
        for row in rows:
            lead = [row.label, *([row.beside or "–", str(row.seeds)] if own else [])]
            cells = [*map(_cell_text, lead), *(_text(row.numbers.get(metric)) for metric in columns)]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join([*parts, NOTE, ""])


def as_latex(table: PaperTable) -> str:
    """One `table` with two tabulars; needs the package booktabs."""
    parts = [r"\begin{table}[t]", r"\centering\small"]
    for heading, columns, rows, own in _blocks(table):
        parts += [
            rf"\par\textbf{{{latex_text(heading)}}}\par\smallskip",
            r"\begin{tabular}{l" + "l" * own + "r" * len(columns) + "}",
            r"\toprule",
            " & ".join(["", *(["Paper's row"] if own else []), *map(latex_text, columns.values())]) + r" \\",
            r"\midrule",
        ]
        for row in rows:
            lead = [latex_text(row.label), *([latex_text(row.beside)] if own else [])]
            parts.append(" & ".join([*lead, *(_latex_number(row.numbers.get(m)) for m in columns)]) + r" \\")
        parts += [r"\bottomrule", r"\end{tabular}", r"\par\bigskip"]
    caption = f"{_title(table)} {NOTE}"
    return "\n".join(
        [*parts, rf"\caption{{{latex_text(caption)}}}", rf"\label{{tab:{table.name}}}", r"\end{table}", ""]
    )


def _title(table: PaperTable) -> str:
    return f"Table {table.name.removeprefix('table')}: {table.title}."


def _blocks(table: PaperTable) -> Sequence[tuple[str, Mapping[str, str], Sequence[TableRow], bool]]:
    return [
        (f"The paper ({table.source})", table.paper_columns, table.paper, False),
        (f"This sweep ({table.sweep_name})", table.sweep_columns, table.sweep, True),
    ]


def _text(number: Number | None) -> str:
    """As printed for the paper's, four digits; for the sweep's own, two digits of the interval."""
    if number is None:
        return "–"
    half = number.half_width
    if half is None:
        return f"{number.value:.4g}"
    digits = 3 if half < 0.1 else 2 if half < 1 else 1
    return f"{number.value:.{digits}f} ± {half:.{digits}f}"


def _latex_number(number: Number | None) -> str:
    if number is None:
        return "--"
    return "$" + _text(number).replace("±", r"\pm") + "$"


_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$",
    "∈": r"$\in$", "<": "$<$", ">": "$>$", "−": "$-$",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "λ": r"$\lambda$", "ε": r"$\varepsilon$", "π": r"$\pi$",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in text)


def _cell_text(text: str) -> str:
    """Text that does not end a cell or a line."""
    return re.sub(r"\s+", " ", text).replace("|", r"\|")
