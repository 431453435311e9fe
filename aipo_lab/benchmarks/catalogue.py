"""The registry of benchmarks: what must be known of each before it is loaded, and loading it.

Importing a module or folder of `aipo_lab.benchmarks` registers its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from typing_extensions import override

from aipo_lab.assets.library import file_hashes, find
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.core.config import StrictModel, suggest
from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.registry import Definition, Registry

if TYPE_CHECKING:
    from aipo_lab.benchmarks.official import OfficialBenchmark

OFFICIAL_PACKAGES = "pip install 'aipo-lab[benchmarks]'"


@dataclass(frozen=True, kw_only=True)
class BenchmarkDefinition(Definition):
    """A registered benchmark: the settings a recipe may give, the metrics it reports (`headline`: those to show)."""

    settings: type[StrictModel]
    metrics: tuple[str, ...]
    headline: BenchmarkMetrics


@dataclass(frozen=True, kw_only=True)
class EmbeddedEntry(BenchmarkDefinition):
    """A benchmark whose prompts and truth come from the world of the same name."""


@dataclass(frozen=True, kw_only=True)
class OfficialEntry(BenchmarkDefinition):
    """A benchmark with questions of its own, usually from data files.

    `loader`: module:class of an `OfficialBenchmark` with a class method `load(limit)`. `assets`: the data files it
    needs. `answer_file`: where an official answer file lies in a model's folder, `*` being the model's name.
    `verdicts_per_question`: games or turns. `needs_judge`: whether a judge is asked for them. `asks_own_prompts`: its
    questions are prompts kept back from the recipe's own data, hence of no use outside a recipe.
    """

    title: str
    loader: str
    n_questions: int
    answer_file: str
    assets: tuple[str, ...] = ()
    n_turns: int = 1
    verdicts_per_question: int = 1
    needs_judge: bool = True
    asks_own_prompts: bool = False


BENCHMARKS: Registry[BenchmarkDefinition] = Registry("benchmark", "aipo_lab.benchmarks", "aipo_lab.benchmarks")


def embedded_names() -> list[str]:
    """The embedded benchmarks."""
    return [name for name, entry in BENCHMARKS.working().items() if isinstance(entry, EmbeddedEntry)]


def official_names() -> list[str]:
    """The benchmarks with questions of their own."""
    return [name for name, entry in BENCHMARKS.working().items() if isinstance(entry, OfficialEntry)]


def official_entry(name: str) -> OfficialEntry:
    """The entry of a benchmark with questions of its own; raises `UserError` for any other name."""
    entry = BENCHMARKS.get(name)
    if not isinstance(entry, OfficialEntry):
        raise UserError(f"{name!r} is no benchmark with questions of its own; {suggest(name, official_names())}")
    return entry


def needs_judge(name: str) -> bool:
    """Whether a judge has to be asked for the benchmark's verdicts."""
    entry = BENCHMARKS.get(name)
    return isinstance(entry, OfficialEntry) and entry.needs_judge


class _Headlines(Mapping[str, BenchmarkMetrics]):
    """The headline metrics of all benchmarks by name, embedded ones first."""

    @override
    def __getitem__(self, name: str) -> BenchmarkMetrics:
        if name not in BENCHMARKS.names():
            raise KeyError(name)
        return BENCHMARKS.get(name).headline

    @override
    def __iter__(self) -> Iterator[str]:
        return iter([*embedded_names(), *official_names()])

    @override
    def __len__(self) -> int:
        return len(BENCHMARKS.working())


BENCHMARK_METRICS = _Headlines()


def portable_names() -> list[str]:
    """The benchmarks whose questions are the same for every recipe, and can be asked without one."""
    return [name for name in official_names() if not official_entry(name).asks_own_prompts]


def load_official(name: str, limit: int | None) -> OfficialBenchmark:
    """The benchmark called `name`, cut to `limit` questions; raises `UserError` without its files."""
    module, class_name = official_entry(name).loader.split(":")
    benchmark: OfficialBenchmark = getattr(import_module(module), class_name).load(limit)
    return benchmark


def files_fingerprint(name: str) -> str:
    """A hash over the benchmark's data files as they were fetched.

    Raises one `UserError` with the commands that obtain what is missing, optional packages included.
    """
    entry = official_entry(name)
    problems = []
    try:
        entry.check_installed(f"benchmark {name}")
    except MissingDependency as error:
        problems.append(str(error))
    found = {}
    for asset in entry.assets:
        try:
            find(asset)
        except UserError as error:
            problems.append(str(error))
        else:
            found[asset] = file_hashes(asset)
    if problems:
        raise UserError.from_problems(f"benchmarks.{name} needs what is not here:", problems)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
