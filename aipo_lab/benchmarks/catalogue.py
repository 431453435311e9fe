"""The official benchmarks by name: what must be known of each before it is loaded, and loading it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from aipo_lab.assets import file_hashes, find
from aipo_lab.core.errors import UserError

if TYPE_CHECKING:
    from aipo_lab.benchmarks.official import OfficialBenchmark


@dataclass(frozen=True)
class OfficialEntry:
    """One official benchmark.

    `assets`, `packages`: the data files and optional packages it needs. `answer_file`: where an official answer file
    lies in a model's folder, `*` being the model's name. `metrics`: what can be selected by. `verdicts_per_question`:
    games or turns.
    """

    title: str
    loader: str
    assets: tuple[str, ...]
    packages: tuple[str, ...]
    answer_file: str
    metrics: tuple[str, ...]
    n_questions: int
    n_turns: int
    verdicts_per_question: int


OFFICIAL_BENCHMARKS: dict[str, OfficialEntry] = {
    "alpaca_eval": OfficialEntry(
        title="AlpacaEval 2",
        loader="aipo_lab.benchmarks.alpaca_eval:AlpacaEval",
        assets=("alpaca-eval",),
        packages=("alpaca_eval",),
        answer_file="model_outputs.json",
        metrics=("lc_win_rate", "lc_win_rate_no_difficulty", "win_rate", "length_chars"),
        n_questions=805,
        n_turns=1,
        verdicts_per_question=1,
    ),
    "arena_hard": OfficialEntry(
        title="Arena-Hard v0.1",
        loader="aipo_lab.benchmarks.arena_hard:ArenaHard",
        assets=("arena-hard", "cl100k-base"),
        packages=("tiktoken",),
        answer_file="model_answer/*.jsonl",
        metrics=("win_rate", "win_rate_ci_low", "win_rate_ci_high", "lc_win_rate", "length_tokens"),
        n_questions=500,
        n_turns=1,
        verdicts_per_question=2,
    ),
    "mt_bench": OfficialEntry(
        title="MT-Bench",
        loader="aipo_lab.benchmarks.mt_bench:MtBench",
        assets=("mt-bench",),
        packages=(),
        answer_file="model_answer/*.jsonl",
        metrics=("score", "score_turn1", "score_turn2"),
        n_questions=80,
        n_turns=2,
        verdicts_per_question=2,
    ),
}


def load_official(name: str, limit: int | None) -> OfficialBenchmark:
    """The benchmark called `name`, cut to `limit` questions; raises `UserError` without its files."""
    module, class_name = OFFICIAL_BENCHMARKS[name].loader.split(":")
    benchmark: OfficialBenchmark = getattr(import_module(module), class_name).load(limit)
    return benchmark


def files_fingerprint(name: str) -> str:
    """A hash over the benchmark's data files as they were fetched.

    Raises one `UserError` with the commands that obtain what is missing, optional packages included.
    """
    missing = [package for package in OFFICIAL_BENCHMARKS[name].packages if find_spec(package) is None]
    problems = [f"the package {package}; install with: pip install 'aipo-lab[benchmarks]'" for package in missing]
    found = {}
    for asset in OFFICIAL_BENCHMARKS[name].assets:
        try:
            find(asset)
        except UserError as error:
            problems.append(str(error))
        else:
            found[asset] = file_hashes(asset)
    if problems:
        raise UserError.from_problems(f"benchmarks.{name} needs what is not here:", problems)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
