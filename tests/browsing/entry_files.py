"""Small answer and judgment files of every kind, made by hand so that tests know what must be shown."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aipo_lab.browsing.entries import Entry
from aipo_lab.core.jsonl import write_jsonl

Row = Mapping[str, Any]
INJECTION = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">'
_numbers = itertools.count()


def write_entry(
    folder: Path, benchmark: str, label: str, answers: Sequence[Row], judgments: Sequence[Row] | None
) -> Entry:
    """An entry with its files below `folder`, each entry in a folder of its own, as in the store."""
    place = folder / f"entry-{next(_numbers)}"
    place.mkdir()
    write_jsonl(place / "answers.jsonl", answers)
    if judgments is not None:
        write_jsonl(place / "judgments.jsonl", judgments)
    return Entry(benchmark, label, place / "answers.jsonl", None if judgments is None else place / "judgments.jsonl")


def turn(prompt: str, text: str, tokens: int | None, finish_reason: str | None = "stop") -> dict[str, Any]:
    return {"prompt": prompt, "text": text, "tokens": tokens, "finish_reason": finish_reason}


def embedded_judgment(id_: str, quality: float, true: float, judged: float) -> dict[str, Any]:
    values = {"quality": quality, "baseline_quality": 0.5, "preference": true, "judged_preference": judged}
    return {"id": id_, **values}


def micro_entries(folder: Path) -> list[Entry]:
    """A base model (all ties) and a trial that wins, loses, is misjudged, is truncated and injects markup."""
    prompts = ["name a colour", "name a river", "name a tool", "show an image"]
    base = ["blue", "the Rhine", "a saw", "no"]
    ours = ["blue, which is a colour", "water", "a hammer and a nail", INJECTION]
    ids = [f"{k:06d}" for k in range(4)]
    reasons = ["stop", "stop", "length", "stop"]
    return [
        write_entry(
            folder,
            "micro",
            "base model",
            [{"id": i, **turn(p, t, 2)} for i, p, t in zip(ids, prompts, base, strict=True)],
            [embedded_judgment(i, 0.5, 0.5, 0.5) for i in ids],
        ),
        write_entry(
            folder,
            "micro",
            "dpo-b0.1, iteration 1",
            [
                {"id": i, **turn(p, t, n, r)}
                for i, p, t, n, r in zip(ids, prompts, ours, [7, 1, 6, 30], reasons, strict=True)
            ],
            [
                embedded_judgment(ids[0], 0.75, 1.0, 1.0),
                embedded_judgment(ids[1], 0.25, 0.0, 0.0),
                embedded_judgment(ids[2], 0.25, 0.0, 1.0),
                embedded_judgment(ids[3], 0.5, 0.5, 0.5),
            ],
        ),
    ]


def rated_entries(folder: Path) -> list[Entry]:
    """MT-Bench: two questions of two turns in two categories, by two models; the ratings of one differ by 3 points."""

    def model(label: str, scores: Sequence[float]) -> Entry:
        answers, judgments = [], []
        for id_, category, score in zip(("81", "121"), ("writing", "coding"), scores, strict=True):
            turns = [turn(f"first of {id_}", f"one by {label}", 10), turn(f"then of {id_}", f"two by {label}", 20)]
            answers.append({"id": id_, "category": category, "turns": turns})
            verdicts = [{"name": f"turn {k}", "verdict": f"{score:g}", "text": f"words on turn {k}"} for k in (1, 2)]
            judgments.append({"id": id_, "preference": None, "score": score, "verdicts": verdicts})
        return write_entry(folder, "mt_bench", label, answers, judgments)

    return [model("base model", [5.0, 6.0]), model("aipo, iteration 2", [8.0, 5.5])]


def compared_entries(folder: Path) -> list[Entry]:
    """AlpacaEval from files (no tokens): one judged entry, and one that is not judged and lacks a question."""
    answers = [{"id": f"{k}", "category": "koala", "turns": [turn(f"ask {k}", f"say {k}", None, None)]} for k in (0, 1)]
    verdict = {"name": "annotation", "verdict": "0.830", "text": ""}
    judgments = [{"id": "0", "preference": 0.83, "score": None, "verdicts": [verdict]}]
    judgments.append({"id": "1", "preference": None, "score": None, "verdicts": []})
    return [
        write_entry(folder, "alpaca_eval", "from files", answers, judgments),
        write_entry(folder, "alpaca_eval", "unjudged", answers[:1], None),
    ]


def all_entries(folder: Path) -> list[Entry]:
    return [*micro_entries(folder), *rated_entries(folder), *compared_entries(folder)]
