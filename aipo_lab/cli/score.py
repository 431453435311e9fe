"""Scoring existing official files: no network, no keys."""

from __future__ import annotations

from pathlib import Path

import click

from aipo_lab.cli.group import main
from aipo_lab.cli.options import json_option


@main.group()
def score() -> None:
    """Score existing official judgment files: no network, no keys."""


existing_path = click.Path(exists=True, path_type=Path)


@score.command("alpaca-eval")
@click.option("--annotations", type=existing_path, required=True, help="annotations.json of the package alpaca-eval.")
@click.option("--outputs", type=existing_path, help="The model's outputs (json, csv or tsv), for its lengths.")
@json_option
def score_alpaca_eval(annotations: Path, outputs: Path | None, as_json: bool) -> None:
    """AlpacaEval 2: win rates and length from an annotation file."""
    from aipo_lab.evaluation.scoring import alpaca_eval, show

    show([alpaca_eval(annotations, outputs)], as_json)


@score.command("arena-hard")
@click.option("--judgments", type=existing_path, required=True, help="A judgment file, v0.1 or v2, or a folder.")
@click.option("--answers", type=existing_path, help="An answer file or a folder of them, for lengths.")
@json_option
def score_arena_hard(judgments: Path, answers: Path | None, as_json: bool) -> None:
    """Arena-Hard: win rates against the baseline with their intervals, for every model."""
    from aipo_lab.evaluation.scoring import arena_hard, show

    show(arena_hard(judgments, answers), as_json)


@score.command("mt-bench")
@click.option("--judgments", type=existing_path, required=True, help="A file <judge>_single.jsonl.")
@click.option("--model", help="Only this model of the file.")
@json_option
def score_mt_bench(judgments: Path, model: str | None, as_json: bool) -> None:
    """MT-Bench: scores overall, by turn and by category, for every model."""
    from aipo_lab.evaluation.scoring import mt_bench, show

    show(mt_bench(judgments, model), as_json)


responses_option = click.option(
    "--responses", type=existing_path, required=True, help="JSON lines with the keys prompt and response."
)


@score.command("ifeval")
@responses_option
@json_option
def score_ifeval(responses: Path, as_json: bool) -> None:
    """IFEval: prompts and instructions followed, strictly and loosely; no judge."""
    from aipo_lab.evaluation.scoring import instruction_following, show

    show([instruction_following("ifeval", responses)], as_json)


@score.command("ifbench")
@responses_option
@json_option
def score_ifbench(responses: Path, as_json: bool) -> None:
    """IFBench: prompts and instructions followed, strictly and loosely; no judge."""
    from aipo_lab.evaluation.scoring import instruction_following, show

    show([instruction_following("ifbench", responses)], as_json)
