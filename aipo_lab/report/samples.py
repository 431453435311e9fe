"""Sampled responses of the report, side by side: a prompt per row, an iteration per column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aipo_lab.figures.palette import objective_name, objective_styles


@dataclass(frozen=True)
class Sample:
    """One response to one prompt. `quality` is true quality (1 = perfect) where a program can tell it."""

    trial: str
    objective: str
    iteration: int
    prompt: str
    response: str
    length_tokens: int
    quality: float | None = None


@dataclass(frozen=True)
class SampleGroup:
    """The samples of one trial: a column per iteration, for each prompt a cell (or None) per column."""

    title: str
    trial: str
    iterations: list[int]
    prompts: list[tuple[str, list[Sample | None]]]


def group_samples(samples: Sequence[Sample], settings: Mapping[str, str]) -> list[SampleGroup]:
    """One group per trial, in palette order; `settings` names the hyperparameters of a trial.

    A base-model sample (iteration 0) of any trial serves all of them.
    """
    base = {sample.prompt: sample for sample in samples if sample.iteration == 0}
    trained = [sample for sample in samples if sample.iteration > 0]
    order = list(objective_styles(sample.objective for sample in trained))
    trials = dict.fromkeys((sample.objective, sample.trial) for sample in trained)
    groups = [
        _group(
            f"{objective_name(objective)} {settings.get(trial) or trial}",
            trial,
            [sample for sample in trained if sample.trial == trial],
            base,
        )
        for objective, trial in sorted(trials, key=lambda key: order.index(key[0]))
    ]
    return groups if trained else [_group("base model", "", [], base)] if base else []


def _group(title: str, trial: str, samples: Sequence[Sample], base: dict[str, Sample]) -> SampleGroup:
    prompts = list(dict.fromkeys(sample.prompt for sample in samples)) or list(base)
    cells = {(sample.prompt, sample.iteration): sample for sample in samples}
    cells |= {(prompt, 0): base[prompt] for prompt in prompts if prompt in base}
    iterations = sorted({iteration for _, iteration in cells})
    rows = [(prompt, [cells.get((prompt, iteration)) for iteration in iterations]) for prompt in prompts]
    return SampleGroup(title, trial, iterations, rows)
