"""What the store knows about a sweep's trials: result rows, training curves, samples and pipeline counts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.core.jsonl import iterate_jsonl, read_json
from aipo_lab.core.store import Artifact, Store
from aipo_lab.figures.pairs import MOST_PANELS
from aipo_lab.pipeline.graph import Iteration, TrialGraph
from aipo_lab.report.samples import Sample
from aipo_lab.results.rows import PAIRS, ResultRow
from aipo_lab.stages.definition import StageNode, find_made
from aipo_lab.sweeps.plan import SweepGraph
from aipo_lab.sweeps.sweep import Sweep, Trial
from aipo_lab.tracking.tracker import CurvePoint, DatasetRef

SAMPLED_PROMPTS = 3
RANK_METRICS = ("mean_score", "mean_best_score")
"""Of a ranking's summary, in the ranker's own unit: of all candidates, and of the best of each prompt."""
REWARD_METRICS = ("accuracy", "accuracy_se")
"""Of the training of the reward model that ranks: on held-out pairs, in percent."""


def find_artifact(store: Store, node: StageNode) -> Artifact | None:
    """The node's artifact if it is in the store."""
    return find_made(store, node)


class Scores:
    """The scores of a sweep's iterations, each read once: they are shared by trials, and artifacts never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[str, float]] = {}

    def of(self, iteration: Iteration) -> dict[str, float] | None:
        """The metrics of all benchmarks of an iteration, or None while one is missing.

        With those of its pairs (`pairs/...`), which theta_t wrote, where they were analysed.
        """
        metrics = self._of_pairs(iteration)
        for benchmark, node in iteration.scores.items():
            if node.reference not in self._known:
                artifact = find_artifact(self._store, node)
                if artifact is None:
                    return None
                self._known[node.reference] = _metrics(benchmark, artifact)
            metrics |= self._known[node.reference]
        return metrics

    def _of_pairs(self, iteration: Iteration) -> dict[str, float]:
        node = iteration.steps.get("analyse")
        if node is None:
            return {}
        if node.reference not in self._known:
            artifact = find_artifact(self._store, node)
            if artifact is None:
                return {}
            self._known[node.reference] = _flat(PAIRS, read_json(artifact.file("metrics.json")))
        return dict(self._known[node.reference])

    def of_ranking(self, iteration: Iteration, reward: StageNode | None) -> dict[str, float]:
        """What the ranker says of the iteration's responses, and how good it is, as far as that is known."""
        metrics: dict[str, float] = {}
        for node, names in ((iteration.steps.get("rank"), RANK_METRICS), (reward, REWARD_METRICS)):
            if node is None:
                continue
            if node.reference not in self._known:
                artifact = find_artifact(self._store, node)
                if artifact is None:
                    continue
                said = artifact.summary
                self._known[node.reference] = {f"rank/{name}": float(said[name]) for name in names if name in said}
            metrics |= self._known[node.reference]
        return metrics


def trial_rows(trial: Trial, graph: TrialGraph, scores: Scores, failed: bool) -> list[ResultRow]:
    """One row per iteration: complete with metrics, or failed or pending without."""
    hyperparameters = trial.hyperparameters()
    rows = []
    reward: StageNode | None = None
    for iteration in graph.iterations:
        metrics = scores.of(iteration)
        reward = iteration.steps.get("train_reward", reward) if iteration.steps else None
        if metrics is not None:
            metrics |= scores.of_ranking(iteration, reward)
        state = "complete" if metrics is not None else "failed" if failed else "pending"
        rows.append(
            ResultRow(
                trial.name,
                trial.objective,
                hyperparameters,
                iteration.t,
                state,
                metrics or {},
                iteration.policy.reference,
            )
        )
    return rows


def _metrics(benchmark: str, artifact: Artifact) -> dict[str, float]:
    scores = read_json(artifact.file("scores.json"))
    n = scores[BENCHMARK_METRICS[benchmark].win_rate.split("/")[1]]["n"]
    return {f"{benchmark}/n": n, **_flat(benchmark, scores)}


def _flat(prefix: str, scores: Mapping[str, Any]) -> dict[str, float]:
    """Estimates by name as columns: values, and standard errors where there are any."""
    values = {f"{prefix}/{name}": score["value"] for name, score in scores.items()}
    errors = {f"{prefix}/{name}_se": score["se"] for name, score in scores.items() if score["se"] is not None}
    return values | errors


def sweep_rows(sweep: Sweep, graph: SweepGraph, store: Store, failures: Mapping[str, str]) -> list[ResultRow]:
    """The rows of all trials, in the order of the sweep."""
    scores = Scores(store)
    return [
        row
        for trial in sweep.trials
        for row in trial_rows(trial, graph.trials[trial.name], scores, trial.name in failures)
    ]


def training_curve(graph: TrialGraph, store: Store) -> list[CurvePoint]:
    """Training metrics of all iterations that were trained, steps counted through, with the times they ended at."""
    points: list[CurvePoint] = []
    for artifact in _step_artifacts(graph, store, "train"):
        speed = {row["step"]: row for row in iterate_jsonl(artifact.file("speed.jsonl"))}
        rows = list(iterate_jsonl(artifact.file("curve.jsonl")))
        left_s = sum(speed.get(row["step"], {}).get("step_s", 0.0) for row in rows)
        ended_s = datetime.fromisoformat(artifact.manifest["created_at"]).timestamp()
        for row in rows:
            merged = row | speed.get(row["step"], {})
            left_s -= merged.get("step_s", 0.0)
            values = {name: value for name, value in merged.items() if name != "step"}
            points.append(CurvePoint(len(points) + 1, values, ended_s - left_s))
    return points


def training_curves(
    trials: Mapping[str, TrialGraph], shown: Collection[str], store: Store
) -> dict[str, list[dict[str, float]]]:
    """The steps of the trainings of the trials `shown`, each with its `iteration` (of the model it made)."""
    curves: dict[str, list[dict[str, float]]] = {}
    for name in shown:
        for iteration in trials[name].iterations:
            node = iteration.steps.get("train")
            if node is not None and (artifact := find_artifact(store, node)) is not None:
                steps = iterate_jsonl(artifact.file("curve.jsonl"))
                curves.setdefault(name, []).extend({**row, "iteration": iteration.t + 1} for row in steps)
    return curves


def trial_datasets(graph: TrialGraph, store: Store) -> list[DatasetRef]:
    """The preference pairs a trial was trained on, iteration by iteration."""
    return [
        DatasetRef(f"pairs_{t}", artifact.key[:16], "training", str(artifact.path))
        for t, artifact in enumerate(_step_artifacts(graph, store, "pair"))
    ]


def _step_artifacts(graph: TrialGraph, store: Store, stage: str) -> Iterator[Artifact]:
    """The artifacts of one stage, iteration by iteration, as far as they exist."""
    for iteration in graph.iterations:
        node = iteration.steps.get(stage)
        if node is not None and (artifact := find_artifact(store, node)) is not None:
            yield artifact


def trial_samples(trial: Trial, graph: TrialGraph, store: Store) -> list[Sample]:
    """The answers to the first prompts of the first benchmark at every iteration it has judged."""
    samples = []
    contender = trial.hyperparameters().get("method", trial.objective)
    benchmark = next(name for iteration in graph.iterations for name in iteration.scores)
    for iteration in graph.iterations:
        if benchmark not in iteration.scores:
            continue
        answers = find_artifact(store, iteration.answers[benchmark])
        scores = find_artifact(store, iteration.scores[benchmark])
        if answers is None or scores is None:
            continue
        judgments = {row["id"]: row for row in iterate_jsonl(scores.file("judgments.jsonl"))}
        for row, _ in zip(iterate_jsonl(answers.file("answers.jsonl")), range(SAMPLED_PROMPTS), strict=False):
            said = row["turns"][0] if "turns" in row else row
            quality = judgments.get(row["id"], {}).get("quality")
            samples.append(
                Sample(trial.name, contender, iteration.t, said["prompt"], said["text"], said["tokens"], quality)
            )
    return samples


def pipeline_counts(trial: Trial, graph: TrialGraph, store: Store) -> list[dict[str, Any]]:
    """What every iteration's data stages kept and dropped."""
    table = []
    for iteration in graph.iterations:
        found = {
            stage: artifact
            for stage, node in iteration.steps.items()
            if (artifact := find_artifact(store, node)) is not None
        }
        if {"instruct", "respond", "pair", "train"} <= found.keys():
            table.append({"trial": trial.name, "iteration": iteration.t, **_counts(found)})
    return table


def _counts(found: Mapping[str, Artifact]) -> dict[str, Any]:
    instruct, respond = found["instruct"].summary, found["respond"].summary
    pair, train = found["pair"].summary, found["train"].summary
    dropped = {name: count for name, count in instruct["counts"].items() if name != "kept"}
    return {
        "instructions generated": sum(instruct["counts"].values()),
        "malformed": dropped.pop("malformed", 0),
        "other filters": sum(dropped.values()),
        "instructions used": instruct["prompts"],
        "candidates": respond["responses"],
        "truncated": respond["truncated"],
        "pairs": pair["pairs"],
        "pairs dropped": sum(pair["counts"].values()) - pair["pairs"],
        "training steps": train["steps"],
        "tokens/s in training": train["tokens_per_s"],
    }


def pair_analyses(
    trials: Mapping[str, TrialGraph], shown: Collection[str], store: Store
) -> dict[str, list[dict[str, Any]]]:
    """Analysed pairs by title, each set once: the first iteration of every trial, then later ones of those `shown`.

    At most as many as a figure has panels.
    """
    first = [(name, graph.iterations[0]) for name, graph in trials.items()]
    later = [(name, one) for name, graph in trials.items() if name in shown for one in graph.iterations[1:]]
    found: dict[str, tuple[str, Artifact]] = {}
    for name, iteration in [*first, *later]:
        node = iteration.steps.get("analyse")
        if len(found) == MOST_PANELS:
            break
        if node is not None and node.key not in found and (artifact := find_artifact(store, node)) is not None:
            found[node.key] = (f"{name}, iteration {iteration.t}", artifact)
    return {title: list(iterate_jsonl(artifact.file("analysis.jsonl"))) for title, artifact in found.values()}
