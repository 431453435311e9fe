"""Which instructions a response follows, strictly and loosely, by the official checks (package if-verifiable).

Loosely: the response as it is, or without its first line, last line, both, or asterisks, follows the instruction.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from aipo_lab.assets.library import find
from aipo_lab.benchmarks.catalogue import OFFICIAL_PACKAGES
from aipo_lab.benchmarks.length_control import Estimate, mean_estimate
from aipo_lab.core.errors import MissingDependency
from aipo_lab.core.unicode import repaired

Name = Literal["ifeval", "ifbench"]


@dataclass(frozen=True)
class Instructed:
    """A prompt and its instructions: `instruction_ids` with the arguments of each check."""

    key: str
    prompt: str
    instruction_ids: tuple[str, ...]
    arguments: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Followed:
    """For each instruction of a prompt, whether the response follows it."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


def check(name: Name, instructed: Instructed, response: str) -> Followed:
    """Run the official checks on the response as it is (the package's own loop trims it, the official one does not).

    An empty response follows nothing. Raises `UserError` without the asset `nltk-data` and `MissingDependency` without
    the package.
    """
    variants_of, registry = _package(name)
    response = repaired(response)  # the package writes what it cannot read into the log
    variants = [text for text in variants_of(response) if text.strip()]
    strict, loose = [], []
    for id_, arguments in zip(instructed.instruction_ids, instructed.arguments, strict=True):
        assert id_ in registry, f"the package has no check for {id_}"
        checker = registry[id_](id_)
        checker.build_description(**{key: value for key, value in arguments.items() if value is not None})
        if "prompt" in (checker.get_instruction_args() or {}):
            checker.build_description(prompt=instructed.prompt)
        strict.append(bool(response.strip() and checker.check_following(response)))
        loose.append(any(bool(checker.check_following(text)) for text in variants))
    return Followed(tuple(strict), tuple(loose))


def scores(followed: Sequence[Followed]) -> dict[str, Estimate]:
    """Percentages of prompts of which every, and of instructions of which each one, is followed.

    Standard errors take prompts as the units drawn: a prompt's instructions go together.
    """
    found = {}
    for kind in ("strict", "loose"):
        marks = [getattr(one, kind) for one in followed]
        found[f"prompt_{kind}"] = mean_estimate([all(of_prompt) for of_prompt in marks], 100)
        found[f"instruction_{kind}"] = _share([sum(one) for one in marks], [len(one) for one in marks])
    return found


def _share(parts: Sequence[int], wholes: Sequence[int]) -> Estimate:
    """Sum of `parts` over that of `wholes` in percent, with the linearised standard error of such a ratio."""
    counted, of = np.asarray(parts, float), np.asarray(wholes, float)
    share = counted.sum() / of.sum()
    n = len(counted)
    se = 100 * np.sqrt(n / (n - 1) * ((counted - share * of) ** 2).sum()) / of.sum() if n > 1 else None
    return Estimate(float(100 * share), None if se is None else float(se), n)


@cache
def _package(name: Name) -> tuple[Any, Mapping[str, Any]]:
    """The package's variants of a response, and its checks by instruction id; word lists come from disk."""
    try:
        nltk: Any = importlib.import_module("nltk")
        langdetect: Any = importlib.import_module("langdetect")
        nltk.data.path.append(str(find("nltk-data")))
        downloader, nltk.download = nltk.download, lambda *_, **__: False  # importing the package would call it
        try:
            registry = importlib.import_module(f"if_verifiable.{name}.instructions_registry")
            common = importlib.import_module("if_verifiable.common")
        finally:
            nltk.download = downloader
    except ImportError as error:
        raise MissingDependency(
            f"{name} needs the package if-verifiable ({error}); install with: {OFFICIAL_PACKAGES}"
        ) from error
    langdetect.DetectorFactory.seed = 0  # which is random otherwise, and so would the verdicts be
    return common.get_loose_transformations, registry.INSTRUCTION_DICT
