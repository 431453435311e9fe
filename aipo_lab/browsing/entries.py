"""What there is to look at: sets of answers to a benchmark with their judgments, and where they are found."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aipo_lab.benchmarks.answers import FILE as ANSWERS
from aipo_lab.benchmarks.answers import Turn, write_turns
from aipo_lab.benchmarks.catalogue import load_official, portable_names
from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.jsonl import iterate_jsonl
from aipo_lab.core.store import Store
from aipo_lab.evaluation.evaluation import MANIFEST as EVALUATION_MANIFEST
from aipo_lab.evaluation.results import read_manifest
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.collect import find_artifact
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.study import Study

JUDGMENTS = "judgments.jsonl"


@dataclass(frozen=True)
class Entry:
    """One model's answers to one benchmark, as JSON lines; `label` is unique within the benchmark.

    `judgments` is None while the answers are not judged; `model` is the trial whose `iteration` it is, where it is one.
    """

    benchmark: str
    label: str
    answers: Path
    judgments: Path | None
    model: str = ""
    iteration: int | None = None


def sweep_entries(folder: Path, store_root: Path | None = None) -> list[Entry]:
    """The finished answers of a sweep's output folder, by benchmark: the base model's, then trial by trial.

    `store_root`: where the store is, if not where the folder says. Raises `UserError` if the folder holds no sweep, or
    nothing is answered yet.
    """
    study = Study.reopen(SweepFolder(folder), store_root)
    found = [*_base_entries(study), *_trial_entries(study)]
    if not found:
        raise UserError(
            f"{folder} has no finished answers in the store {study.store.root}; "
            f"look again when the sweep has answered a benchmark ({shlex.join(['aipo-lab', 'status', str(folder)])}), "
            "or give the store with --store if it lies elsewhere"
        )
    benchmarks = list(dict.fromkeys(entry.benchmark for entry in found))
    return sorted(found, key=lambda entry: benchmarks.index(entry.benchmark))


def missing_answers(folder: Path, store_root: Path | None = None) -> list[str]:
    """What the store lacks of results that the folder has, in a sentence; nothing if it lacks none."""
    missing = Study.reopen(SweepFolder(folder), store_root).missing_text()
    return [missing] if missing else []


def evaluation_entries(folder: Path) -> list[Entry]:
    """The answers of `aipo-lab evaluate`'s output folder.

    Raises `UserError` if no benchmark is finished yet.
    """
    evaluation = read_manifest(folder / EVALUATION_MANIFEST)
    if not evaluation["benchmarks"]:
        raise UserError(f"{folder} has no finished benchmark; run the same aipo-lab evaluate again to go on")
    return [
        Entry(benchmark, made["model"], folder / made["answers"] / ANSWERS, folder / made["scores"] / JUDGMENTS)
        for benchmark, made in evaluation["benchmarks"].items()
    ]


def with_baselines(entries: Sequence[Entry], folder: Path) -> tuple[list[Entry], list[str]]:
    """`entries`, each official benchmark's led by its baseline's answers to the same questions, written into `folder`.

    A benchmark whose files are not on this machine stays without, and a sentence says why.
    """
    notes = []
    benchmarks = dict.fromkeys(entry.benchmark for entry in entries)
    by_benchmark = {name: [entry for entry in entries if entry.benchmark == name] for name in benchmarks}
    for name in by_benchmark.keys() & set(portable_names()):
        try:
            by_benchmark[name] = [*_baseline(name, by_benchmark[name], folder / name), *by_benchmark[name]]
        except (UserError, MissingDependency) as error:
            notes.append(f"{name}: without the official baseline's answers: {error}")
    return [entry for found in by_benchmark.values() for entry in found], notes


def _baseline(name: str, entries: Sequence[Entry], folder: Path) -> list[Entry]:
    benchmark = load_official(name, None)
    wanted = {row["id"] for entry in entries for row in iterate_jsonl(entry.answers)}
    said = {answer.question_id: [Turn(text) for text in answer.turns] for answer in benchmark.baseline_answers()}
    questions = [question for question in benchmark.questions if question.id in wanted & said.keys()]
    if not questions:
        return []
    folder.mkdir(parents=True)
    write_turns(folder, questions, [said[question.id] for question in questions])
    return [Entry(name, "official baseline", folder / ANSWERS, None)]


def _base_entries(study: Study) -> Iterator[Entry]:
    """Iteration 0, which trials share: once per benchmark, unless trials differ in it (by seed, say)."""
    first_trials: dict[str, dict[tuple[str, str], str]] = {}
    for trial, graph in study.graph.trials.items():
        base = graph.iterations[0]
        for benchmark, answers in base.answers.items():
            scores = base.scores.get(benchmark)
            identity = (answers.reference, scores.reference if scores else "")
            first_trials.setdefault(benchmark, {}).setdefault(identity, trial)
    for benchmark, trials in first_trials.items():
        for trial in trials.values():
            base = study.graph.trials[trial].iterations[0]
            label = "base model" if len(trials) == 1 else f"base model of {trial}"
            yield from _entry(study.store, benchmark, label, base.answers[benchmark], base.scores.get(benchmark))


def _trial_entries(study: Study) -> Iterator[Entry]:
    for trial, graph in study.graph.trials.items():
        for iteration in graph.iterations[1:]:
            for benchmark, answers in iteration.answers.items():
                label = f"{trial}, iteration {iteration.t}"
                for one in _entry(study.store, benchmark, label, answers, iteration.scores.get(benchmark)):
                    yield replace(one, model=trial, iteration=iteration.t)


def _entry(store: Store, benchmark: str, label: str, answers: StageNode, scores: StageNode | None) -> Iterator[Entry]:
    """The entry of a pair of nodes; none while the answers are not finished."""
    answered = find_artifact(store, answers)
    if answered is None:
        return
    judged = find_artifact(store, scores) if scores else None
    # Not `Artifact.file`: a file lost since it was published is reported on the page, beside what is still there.
    yield Entry(benchmark, label, answered.path / ANSWERS, judged.path / JUDGMENTS if judged else None)
