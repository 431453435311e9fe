"""Reads a sweep's values by prompt from the judged answers in its store, and keeps them in the sweep's folder.

A column is taken over only where its mean is the metric's value in `scores.json`: a score that is no mean over prompts
(Bradley-Terry strengths, say) is left out, and is compared by its standard error.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aipo_lab.benchmarks.length_control import length_controlled_values
from aipo_lab.core.jsonl import read_json, read_jsonl, write_bytes_atomically
from aipo_lab.core.store import Artifact, Store
from aipo_lab.results.per_prompt import Key, PointValues, PromptValues, Values
from aipo_lab.stages.definition import StageNode, find_made
from aipo_lab.sweeps.plan import SweepGraph

FILE = "prompt_values.npz"
FORMAT = "1"


@dataclass(frozen=True)
class _Point:
    """Where one point's values come from: its score, its answers, and the baseline's answers where they are a stage."""

    scores: StageNode
    answers: StageNode
    baseline: StageNode | None


def load_prompt_values(graph: SweepGraph, store: Store, cache: Path | None = None) -> PromptValues:
    """The values of all points that the store has; `cache` is a file that saves reading them again.

    A cache that is damaged, or cannot be written, is as good as none. Artifacts never change, so it is never stale.
    """
    sources = _sources(graph)
    wanted = {point.scores.reference: point for point in sources.values()}
    known = {} if cache is None else _read_cache(cache)
    found = {reference: known[reference] for reference in wanted if reference in known}
    new = {ref: values for ref, point in wanted.items() if ref not in found and (values := _read(store, point))}
    if cache is not None and new:
        _write_cache(cache, found | new)
    found |= new
    points = {key: found[one.scores.reference] for key, one in sources.items() if one.scores.reference in found}
    lacking = dict.fromkeys((trial, t) for (trial, t, _), one in sources.items() if one.scores.reference not in found)
    return PromptValues(points, _made(lacking, graph, store))


def _made(points: Iterable[Key], graph: SweepGraph, store: Store) -> list[Key]:
    """Those of the points that once were made: a sweep that has not come to them yet lacks nothing."""
    made = []
    for trial, t in points:
        later = graph.trials[trial].iterations[t:]
        if any(store.contains(node.stage, node.key) for one in later for node in one.scores.values()):
            made.append((trial, t))
    return made


def _sources(graph: SweepGraph) -> dict[tuple[str, int, str], _Point]:
    nodes = graph.nodes
    sources = {}
    for trial, trial_graph in graph.trials.items():
        for iteration in trial_graph.iterations:
            for benchmark, scores in iteration.scores.items():
                baseline = nodes.get(scores.request.inputs.get("baseline", ""))
                sources[trial, iteration.t, benchmark] = _Point(scores, iteration.answers[benchmark], baseline)
    return sources


def _read(store: Store, point: _Point) -> PointValues | None:
    """The values of a point; None if its scores are not in the store."""
    judged = find_made(store, point.scores)
    if judged is None:
        return None
    rows = read_jsonl(judged.file("judgments.jsonl"))
    if not rows:
        return None
    reported = {name: score["value"] for name, score in read_json(judged.file("scores.json")).items()}
    ids = tuple(str(row["id"]) for row in rows)
    columns = _judged_columns(rows) | _answer_columns(_answers(store, point.answers, ids))
    columns |= _length_controlled(columns, _answers(store, point.baseline, ids))
    kept = {name: values for name, values in columns.items() if _is_mean(values, reported.get(name))}
    return PointValues(ids, kept) if kept else None


def _is_mean(values: Values, reported: float | None) -> bool:
    if reported is None or not np.isfinite(values).all():
        return False
    return math.isclose(float(values.mean()), reported, rel_tol=1e-6, abs_tol=1e-6)


def _answers(store: Store, node: StageNode | None, ids: tuple[str, ...]) -> list[dict[str, Any]]:
    """The answers to the questions `ids`, in their order; none where some are not in the store."""
    artifact: Artifact | None = None if node is None else store.find(node.stage, node.key)
    if artifact is None:
        return []
    by_id = {str(row["id"]): row for row in read_jsonl(artifact.file("answers.jsonl"))}
    return [by_id[one] for one in ids] if by_id.keys() >= set(ids) else []


def _judged_columns(rows: list[dict[str, Any]]) -> dict[str, Values]:
    """What judgments say: of embedded benchmarks by truth and by the judge, of others one of preference and score."""
    if "judged_preference" in rows[0]:
        return {
            "win_rate": 100 * _column(rows, "preference"),
            "judged_win_rate": 100 * _column(rows, "judged_preference"),
            "quality": _column(rows, "quality"),
        }
    return {"win_rate": 100 * _column(rows, "preference"), "score": _column(rows, "score")}


def _answer_columns(answers: list[dict[str, Any]]) -> dict[str, Values]:
    """Lengths, which both kinds of answer rows have: one text, or several turns."""
    said = [row.get("turns", [row]) for row in answers]
    if not said:
        return {}
    tokens = [[turn["tokens"] for turn in turns] for turns in said]
    return {
        "length_tokens": np.array([math.nan if None in each else sum(each) for each in tokens], dtype=float),
        "length_chars": np.array([sum(len(turn["text"]) for turn in turns) for turns in said], dtype=float),
        "truncated": np.array([100.0 * (turns[-1]["finish_reason"] == "length") for turns in said]),
    }


def _length_controlled(columns: Mapping[str, Values], baseline: list[dict[str, Any]]) -> dict[str, Values]:
    """The length-controlled rate of an embedded benchmark, linearised: see `length_controlled_values`."""
    theirs = _answer_columns(baseline).get("length_tokens")
    ours, judged = columns.get("length_tokens"), columns.get("judged_win_rate")
    if judged is None or ours is None or theirs is None:
        return {}
    return {"lc_win_rate": length_controlled_values(judged / 100, ours, theirs)}


def _column(rows: list[dict[str, Any]], name: str) -> Values:
    values = [row.get(name) for row in rows]
    return np.array([math.nan if value is None else float(value) for value in values])


def _write_cache(path: Path, points: Mapping[str, PointValues]) -> None:
    """One block of numbers for all points with the same prompts and metrics."""
    blocks: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for reference, point in points.items():
        blocks.setdefault((point.ids, tuple(point.columns)), []).append(reference)
    arrays: dict[str, Any] = {"format": np.array(FORMAT)}
    for number, ((ids, metrics), references) in enumerate(blocks.items()):
        arrays[f"{number}/references"], arrays[f"{number}/ids"] = np.array(references), np.array(ids)
        arrays[f"{number}/metrics"] = np.array(metrics)
        arrays[f"{number}/values"] = np.array([[points[ref].columns[m] for m in metrics] for ref in references])
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    try:
        write_bytes_atomically(path, content.getvalue())
    except OSError:
        return  # a full disk, or a folder of somebody else's: the next report reads the store again


def _read_cache(path: Path) -> dict[str, PointValues]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}
    if str(arrays.pop("format", "")) != FORMAT:
        return {}
    points = {}
    for number in dict.fromkeys(name.split("/")[0] for name in arrays):
        ids = tuple(map(str, arrays[f"{number}/ids"]))
        metrics = tuple(map(str, arrays[f"{number}/metrics"]))
        for reference, values in zip(arrays[f"{number}/references"], arrays[f"{number}/values"], strict=True):
            points[str(reference)] = PointValues(ids, dict(zip(metrics, values, strict=True)))
    return points
