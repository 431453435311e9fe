"""What an evaluation has found: scores with their titles and notes, and the output folder.

That folder holds, by benchmark, the official answer and judgment files and `scores.json`; and `evaluation.json`, which
says from which artifacts they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aipo_lab.benchmarks.catalogue import official_entry
from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.benchmarks.official import file_name
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.core.store import Artifact, Store
from aipo_lab.evaluation.evaluation import MANIFEST, Evaluation, EvaluationConfig
from aipo_lab.evaluation.scoring import ModelScores
from aipo_lab.stages.definition import find_made

SCORES = "scores.json"


@dataclass(frozen=True)
class Finished:
    """One benchmark's answers and scores."""

    benchmark: str
    answers: Artifact
    scores: Artifact

    @property
    def model(self) -> str:
        """The model's name in the benchmark's official files."""
        return str(self.answers.summary["model"])

    def show(self) -> ModelScores:
        """The scores under a title, with what one must know to read them."""
        summary = self.scores.summary
        estimates = {metric: Estimate(**score) for metric, score in read_json(self.scores.file(SCORES)).items()}
        notes = list(summary["notes"])
        if summary["unjudged"]:
            where, reason = next(iter(summary["unjudged"].items()))
            notes.append(
                f"{len(summary['unjudged'])} of {estimates['unjudged'].n} verdicts are missing and count for nothing, "
                f"the first: {where} ({reason})"
            )
        title = f"{self.model}: {official_entry(self.benchmark).title}, judged by {summary['judge']}"
        return ModelScores(title, {f"{self.benchmark}/{name}": one for name, one in estimates.items()}, notes)


def choose_output_folder(config: EvaluationConfig, evaluation: Evaluation, out: Path | None, default: Path) -> Path:
    """Where the results go: `out`, or a folder below `default`.

    Raises `UserError` where they would replace the answers that are read, or something that is not such results.
    """
    answer_files = [node.runtime.answer_file for node in evaluation.answers.values()]
    read = [Path(file).resolve() for file in answer_files if file is not None]

    def is_read_from(folder: Path) -> bool:
        return any(file.is_relative_to(folder.resolve()) for file in read)

    folder = out or default / evaluation.model
    judge = config.benchmarks.judge
    if out is None and judge is not None and is_read_from(folder):
        folder = folder.with_name(f"{folder.name}-judged-by-{file_name(judge.model)}")
    problems = []
    for place in (folder / name for name in evaluation.scores):
        if is_read_from(place):
            problems.append(f"{place}: the answers are read from there")
        elif place.exists() and not (place / SCORES).is_file():
            problems.append(f"{place}: not a folder of such results (no {SCORES})")
    if problems:
        raise UserError.from_problems(
            "results would replace what is there; choose another folder with --out:", problems
        )
    return folder


def find_finished(evaluation: Evaluation, store: Store) -> list[Finished]:
    """The benchmarks that are answered and judged."""
    found = []
    for name, node in evaluation.scores.items():
        scores, answers = find_made(store, node), find_made(store, evaluation.answers[name])
        if scores is not None and answers is not None:
            found.append(Finished(name, answers, scores))
    return found


def model_name(evaluation: Evaluation, found: Sequence[Finished]) -> str:
    """The model's name in the official files; the evaluation's where these do not agree on one."""
    names = {one.model for one in found}
    return names.pop() if len(names) == 1 else evaluation.model


def merge(model: str, found: Sequence[Finished]) -> ModelScores:
    """All benchmarks' scores of one model as one entry."""
    shown = {one.benchmark: one.show() for one in found}
    scores = {name: estimate for one in shown.values() for name, estimate in one.scores.items()}
    return ModelScores(model, scores, [f"{name}: {note}" for name, one in shown.items() for note in one.notes])


def write_evaluation(evaluation: Evaluation, found: Sequence[Finished], out: Path) -> None:
    """Write what is finished into the output folder; what an earlier evaluation has left there of others stays.

    `evaluation.json` says of every benchmark by which judge, over how many questions and from which artifacts it is.
    """
    manifest = out / MANIFEST
    benchmarks = read_json(manifest)["benchmarks"] if manifest.is_file() else {}
    for one in found:
        _write_benchmark(one, out / one.benchmark)
        benchmarks[one.benchmark] = {
            "model": one.model,
            "judge": one.scores.summary["judge"],
            "questions": one.scores.summary["answers"],
            "answers": str(one.answers.path),
            "scores": str(one.scores.path),
        }
    write_json(manifest, {"model": model_name(evaluation, found), "benchmarks": benchmarks})


def _write_benchmark(finished: Finished, folder: Path) -> None:
    """Replace the folder as a whole: a kill leaves the old one, none or the new one."""
    temporary = folder.with_name(f".{folder.name}.new")
    _remove(temporary)
    for artifact in (finished.answers, finished.scores):
        shutil.copytree(artifact.file("official"), temporary, dirs_exist_ok=True)
    shutil.copy(finished.scores.file(SCORES), temporary)
    _remove(folder)
    os.replace(temporary, folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
