"""Scores of existing official judgment files: what `aipo-lab score arena-hard` reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aipo_lab.assets.arena_hard import ARENA_HARD, BASELINE_ANSWERS
from aipo_lab.assets.library import find
from aipo_lab.benchmarks.arena_hard.formats import ModelAnswers, read_answers, read_judgments
from aipo_lab.benchmarks.arena_hard.scores import Tally, scores, tally
from aipo_lab.benchmarks.arena_hard.shapes import BASELINE_V01, Judgment
from aipo_lab.benchmarks.arena_hard.tokens import token_lengths
from aipo_lab.benchmarks.arena_hard.verdicts import Rules
from aipo_lab.benchmarks.length_control import Estimate
from aipo_lab.core.errors import UserError


@dataclass(frozen=True)
class FileScores:
    """The scores of one model against one baseline; `scores` is by metric name.

    `version`: v0.1 or v2, whose rules were applied. `interval_percent`: what the interval covers; it is a bootstrap
    over the questions of this model alone. `unjudged`: games that count for nothing, with the reason. `duplicates`:
    rows replaced by a later one for the same question. `notes`: metrics that are not reported, and why.
    """

    judge: str
    baseline: str
    category: str
    version: str
    interval_percent: float
    scores: Mapping[str, Estimate]
    unjudged: Mapping[str, str]
    duplicates: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Group:
    """The judgments of one model in one category, and the file they are from."""

    path: Path
    rules: Rules
    judgments: Sequence[Judgment]
    n_replaced: int


def score_arena_hard(judgments: Path, answers: Path | None = None) -> dict[str, FileScores]:
    """Score every model in a judgment file or in a folder of them; best win rate first, by model.

    A model with several categories (v2) has an entry `model (category)` for each, since their baselines differ.
    `answers`, an answer file or a folder of them, adds `length_tokens` and `lc_win_rate`; the baseline's answers are
    looked for there, then in the asset `arena-hard`. Raises `UserError` for files of another kind, a model in several
    files, mixed judges or baselines, no verdict at all, and answers that are missing.
    """
    groups = _read_groups(judgments)
    known = _read_all_answers(answers) if answers is not None else None
    categories: dict[str, int] = {}
    for model, _ in groups:
        categories[model] = categories.get(model, 0) + 1
    scored = {
        model if categories[model] == 1 else f"{model} ({category})": _score(group, known)
        for (model, category), group in groups.items()
    }
    return dict(sorted(scored.items(), key=lambda item: -item[1].scores["win_rate"].value))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.jsonl"))
    if not files:
        below = sorted({str(file.parent) for depth in ("*", "*/*") for file in path.glob(f"{depth}/*.jsonl")})
        remedy = f"give one of: {', '.join(below)}" if below else "give a file, or a folder of them"
        raise UserError(f"the folder {path} holds no .jsonl file; {remedy}")
    return files


def _read_groups(path: Path) -> dict[tuple[str, str], _Group]:
    groups: dict[tuple[str, str], _Group] = {}
    problems = []
    for file in _files(path):
        content = read_judgments(file)
        for key, judgments in content.judgments.items():
            group = _Group(file, content.rules, judgments, content.n_replaced[key])
            if key in groups:
                problems.append(f"{key[0]} is both in {groups[key].path.name} and in {file.name}; remove one of them")
            groups[key] = group
            problems += _problems(key[0], group)
    if problems:
        raise UserError.from_problems(f"the judgments in {path} cannot be scored:", problems)
    return groups


def _problems(model: str, group: _Group) -> list[str]:
    problems = []
    for what in ("judge", "baseline"):
        names = sorted({getattr(judgment, what) for judgment in group.judgments})
        if len(names) > 1:
            problems.append(
                f"{group.path.name} has several {what}s of {model} ({', '.join(names)}): a file can have one"
            )
    if not tally(group.judgments, group.rules).question_ids:
        problems.append(f"{group.path.name} has no verdict on {model}: judge it again")
    return problems


def _read_all_answers(path: Path) -> dict[str, ModelAnswers]:
    models: dict[str, ModelAnswers] = {}
    for file in _files(path):
        for model, answers in read_answers(file).items():
            if model in models:
                raise UserError(f"the answers of {model} are in several files of {path}, one is {file.name}; keep one")
            models[model] = answers
    return models


def _score(group: _Group, known: Mapping[str, ModelAnswers] | None) -> FileScores:
    first = group.judgments[0]
    counted = tally(group.judgments, group.rules)
    tokens = baseline_tokens = None
    notes = []
    if known is None:
        notes.append("length_tokens and lc_win_rate need the answers")
    else:
        tokens = _lengths(first.model, known, counted)
        try:
            baseline_tokens = _lengths(first.baseline, _with_baseline(first.baseline, known), counted)
        except UserError as error:
            notes.append(f"lc_win_rate needs the baseline's answers: {error}")
    return FileScores(
        judge=first.judge,
        baseline=first.baseline,
        category=first.category,
        version=group.rules.version,
        interval_percent=group.rules.interval_percent,
        scores=scores(counted, group.rules, tokens, baseline_tokens),
        unjudged=counted.unjudged,
        duplicates=group.n_replaced,
        notes=tuple(notes),
    )


def _with_baseline(baseline: str, known: Mapping[str, ModelAnswers]) -> Mapping[str, ModelAnswers]:
    """The known answers and, where it is the official baseline that is missing, its answers from the asset."""
    if baseline in known or baseline != BASELINE_V01:
        return known
    return {**known, **read_answers(find(ARENA_HARD.name) / BASELINE_ANSWERS)}


def _lengths(model: str, known: Mapping[str, ModelAnswers], counted: Tally) -> dict[str, int]:
    """Tokens of the answers of `model`, which must answer every question that counts."""
    if model not in known:
        raise UserError(f"no answers of {model} are given, only of {', '.join(sorted(known))}; check --answers")
    missing = [question for question in counted.question_ids if question not in known[model].texts]
    if missing:
        raise UserError(
            f"the answers of {model} lack {len(missing)} of {len(counted.question_ids)} judged questions "
            f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}); give the complete answer file"
        )
    return token_lengths(known[model])
