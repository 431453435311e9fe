"""What `aipo-lab lint` does and shows: the data linter's rules on a file of existing preference pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from aipo_lab.console.running import say
from aipo_lab.core.errors import UserError
from aipo_lab.curation.pair_statistics import PairStatistics, pair_statistics
from aipo_lab.prompts.conversations import NoPair, Pair, read_pair
from aipo_lab.prompts.reading import DataPlace, read_rows
from aipo_lab.report.linting import DataFacts, lint

ROLES = ("chosen", "rejected")


def lint_file(path: Path) -> bool:
    """Print what is to be looked at in a file or folder of pairs, in any of TRL's formats; returns whether anything is.

    Raises `UserError` for a file that cannot be read or that holds no pair.
    """
    console = Console()
    if not path.exists():
        raise UserError(f"{path} is not there; give a file or folder of preference pairs (prompt, chosen, rejected)")
    counts: Counter[str] = Counter()
    rows = list(_pairs(path, counts))
    if not rows:
        raise UserError(
            f"{path} holds no usable pair: {dict(counts)}; a row needs `chosen` and `rejected`, and `prompt` "
            "unless both begin with it"
        )
    statistics = pair_statistics(rows)
    say(console, f"{path}: {_described(statistics)}")
    for reason, n in counts.items():
        if reason != "kept":
            say(console, f"left out: {n} {reason}")
    findings = lint(DataFacts(statistics=statistics))
    for finding in findings:
        say(console, f"warning: {finding.rule.name}: {finding.text}")
    if not findings:
        say(console, "nothing to look at: no rule found anything")
    return bool(findings)


def _pairs(path: Path, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """The usable rows in the house format, with what else they know of lengths, ends and scores."""
    for row in read_rows(DataPlace(path=str(path)), (), "lint"):
        try:
            pair = _read(row)
        except NoPair as reason:
            counts[str(reason)] += 1
            continue
        counts["kept"] += 1
        made = {role: [{"role": "assistant", "content": getattr(pair, role)}] for role in ROLES}
        yield {**made, **_known(row, "tokens"), **_known(row, "finish_reason"), **_known(row, "score")}


def _read(row: Mapping[str, Any]) -> Pair:
    if any(row.get(role) is None for role in ROLES):
        raise NoPair("empty_response")
    return read_pair(row.get("prompt"), row["chosen"], row["rejected"])


def _known(row: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Columns of both responses where both have a value of the right kind."""
    kind = str if what == "finish_reason" else (int, float)
    names = [f"{role}_{what}" for role in ROLES]
    known = all(isinstance(row.get(name), kind) and not isinstance(row[name], bool) for name in names)
    return {name: row[name] for name in names} if known else {}


def _described(statistics: PairStatistics) -> str:
    return (
        f"{statistics.pairs} pairs; chosen minus rejected {statistics.length_difference:+.1f} {statistics.length_unit} "
        f"(all lengths vary by {statistics.length_sd:.1f}); {statistics.near_duplicates} near-duplicates"
    )
