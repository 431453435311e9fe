"""Exports of an iteration's pairs: a dataset of one Parquet file in TRL's conversational preference format, and a card.

Its columns are those of `pairs.jsonl`, token ids included, so that nothing has to be tokenised again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl
from aipo_lab.core.store import Artifact
from aipo_lab.core.unicode import repaired_json
from aipo_lab.core.yaml_text import dump_yaml
from aipo_lab.sweeps.export_folder import new_folder, table, write_card
from aipo_lab.sweeps.model_card import base_name, shown_recipe
from aipo_lab.sweeps.points import Point

DATA_FILE = "data/train-00000-of-00001.parquet"
FIRST_COLUMNS = ("id", "prompt", "chosen", "rejected")
DATA_SECTIONS = ("seed", "model", "world", "prompts", "engine", "instruct", "respond", "rank", "pair", "pairs")

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The hub's names for the size of a dataset."""


def export_pairs(point: Point, target: Path, force: bool = False) -> int:
    """Write the pairs that the point's policy made, and the next one was trained on; returns their number.

    See `new_folder` for `force` and errors. Raises `UserError` for a last iteration, which makes none.
    """
    node = point.graph.iterations[point.t].steps.get("pair")
    if node is None:
        raise UserError(
            f"{point.name}: the last iteration makes no pairs; {point.name} was trained on those of "
            f"{point.trial.name}@{point.t - 1}"
        )
    artifact = point.artifact(node.reference, f"the pairs of iteration {point.t},")
    rows: list[dict[str, Any]] = repaired_json(read_jsonl(artifact.file("pairs.jsonl")))
    with new_folder(target, force, [point.store.root, point.folder.path]) as folder:
        _write_parquet(folder / DATA_FILE, rows)
        _write_card(folder, point, artifact, rows)
    return len(rows)


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One file of all rows; a column that some rows lack is null there."""
    import pyarrow
    from pyarrow import parquet

    names = [*FIRST_COLUMNS, *(name for name in dict.fromkeys(key for row in rows for key in row))]
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(names)}
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table(columns), path)


def _write_card(folder: Path, point: Point, artifact: Artifact, rows: Sequence[Mapping[str, Any]]) -> None:
    header = {
        "pretty_name": f"Pairs of {point.name}",
        "tags": ["aipo-lab", "preference", "trl"],
        "size_categories": [next((name for limit, name in SIZES if len(rows) < limit), "n>1M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": DATA_FILE}]}],
    }
    about = {
        "sweep": point.sweep.name,
        "trial": point.trial.name,
        "iteration": point.t,
        "pairs": f"{artifact.stage}/{artifact.key}",
        "policy": point.checkpoint,
    }
    recipe = {name: value for name, value in shown_recipe(point).items() if name in DATA_SECTIONS}
    counts = artifact.summary.get("counts", {})
    body = [
        f"# Preference pairs of iteration {point.t} of {point.trial.name} ({point.sweep.name})",
        f"{len(rows)} pairs{_writer(point)}. {point.trial.name}@{point.t + 1} was trained on them. Made by aipo-lab.",
        "## How to load",
        '```python\nfrom datasets import load_dataset\n\npairs = load_dataset("this/folder", split="train")\n```\n\n'
        "`prompt`, `chosen` and `rejected` are lists of messages, as TRL's `DPOTrainer` takes them. The columns "
        "`…_token_ids` are the tokens that were shown and generated, the end token included where one was written.",
        "## What is in it",
        table(("what", "value"), _numbers(rows)),
        "## Kept and dropped",
        table(("reason", "prompts"), list(counts.items())),
        "## How they were made",
        f"```yaml\n{dump_yaml(recipe)}```",
        "## Made from",
        table(("what", "which"), _origins(artifact)),
        "## Licence",
        "The responses are a model's: the licence of the base model, and that of the prompts, may bind their use.",
    ]
    write_card(folder, header, about, "\n\n".join(body))


def _writer(point: Point) -> str:
    """Whose words the pairs are."""
    if point.trial.recipe.pairs is not None:
        return f", which were given, not written here (see `pairs` below), of iteration {point.t}"
    policy = f"{base_name(point)} after {point.t} iterations" if point.t else f"{base_name(point)}, the base model"
    return f", written and ranked in iteration {point.t}: both responses are by {point.name} ({policy})"


def _numbers(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, object]]:
    """Number of pairs, and means of what both responses have."""
    found: list[tuple[str, object]] = [("pairs", len(rows))]
    for title, name in (("mean score", "score"), ("mean length in tokens", "tokens")):
        for role in ("chosen", "rejected"):
            values = [row[f"{role}_{name}"] for row in rows if row.get(f"{role}_{name}") is not None]
            if values:
                found.append((f"{title}, {role}", float(fmean(values))))
    return found


def _origins(artifact: Artifact) -> list[tuple[str, object]]:
    manifest = artifact.manifest
    return [
        ("artifact", f"{artifact.stage}/{artifact.key}"),
        *((f"input `{name}`", reference) for name, reference in manifest["inputs"].items()),
        *manifest.get("versions", {}).items(),
        ("made at", manifest.get("created_at", "")),
    ]
