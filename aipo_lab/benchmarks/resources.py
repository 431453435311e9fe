"""What official benchmarks need on this machine, found before anything runs: data files and the judge."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aipo_lab.benchmarks.catalogue import files_fingerprint, needs_judge
from aipo_lab.benchmarks.config import BenchmarksConfig
from aipo_lab.core.errors import UserError
from aipo_lab.judging.settings import JudgeSettings


@dataclass(frozen=True)
class BenchmarkResources:
    """`files`: a hash of the data files by benchmark; `judges`: `JudgeSettings.identity` by `judge_name`."""

    files: Mapping[str, str] = field(default_factory=dict)
    judges: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def identity(self, judge: JudgeSettings) -> dict[str, Any]:
        """What determines the replies of `judge`."""
        return self.judges[judge_name(judge)]


def judge_name(judge: JudgeSettings) -> str:
    """The judge's settings as text."""
    return json.dumps([judge.engine, judge.model, judge.label, judge.dtype])


def find_resources(configs: Iterable[BenchmarksConfig]) -> BenchmarkResources:
    """The resources of all official benchmarks in `configs`.

    Raises one `UserError` naming every missing data file, with the command that obtains it, and a missing judge.
    """
    resources, problems = _look_for_all(configs)
    if problems:
        raise UserError("\n".join(problems))
    return resources


def foresee_resources(configs: Iterable[BenchmarksConfig]) -> tuple[BenchmarkResources, list[str]]:
    """The resources for a plan: what is not here is stood in for, and why it is not here comes back as sentences.

    Keys made from stand-ins are those of nothing that will be stored.
    """
    known = list(configs)
    found, problems = _look_for_all(known)
    names = {name for config in known for name in config.official()}
    asked = [config.judge for config in known if config.judge is not None]
    files = {name: found.files.get(name, "not here") for name in names}
    judges = {judge_name(one): found.judges.get(judge_name(one), {"not here": one.model}) for one in asked}
    return BenchmarkResources(files, judges), problems


def _look_for_all(configs: Iterable[BenchmarksConfig]) -> tuple[BenchmarkResources, list[str]]:
    """What there is of the data files and judges, and a sentence for each that there is not."""
    files: dict[str, str] = {}
    judges: dict[str, dict[str, Any]] = {}
    problems: dict[str, None] = {}
    for config in configs:
        for name in config.official().keys() - files.keys():
            try:
                files[name] = files_fingerprint(name)
            except UserError as error:
                problems[str(error)] = None
        if (
            any(map(needs_judge, config.official()))
            and config.judge is not None
            and judge_name(config.judge) not in judges
        ):
            try:
                judges[judge_name(config.judge)] = config.judge.identity()
            except UserError as error:
                problems[f"benchmarks.judge: {error}"] = None
    return BenchmarkResources(files, judges), list(problems)
