"""Arena-Hard's files for tests: the official ones of `AIPO_LAB_ASSETS`, made-up judgments, and a scripted judge."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import aipo_lab.assets.library as assets
from aipo_lab.assets.arena_hard import ARENA_HARD, CL100K_BASE
from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import write_json
from aipo_lab.core.progress import Progress
from aipo_lab.judging.calls import JudgeReply, JudgeRequest, Outcome

SWAPPED = {"A>>B": "B>>A", "A>B": "B>A", "A=B": "A=B", "B>A": "A>B", "B>>A": "A>>B"}


def official() -> Path:
    """The folder of Arena-Hard's official files; skips the test without it."""
    folder = os.environ.get("AIPO_LAB_ASSETS")
    if not folder:
        pytest.skip("AIPO_LAB_ASSETS, the folder of the benchmarks' official files, is not set")
    return Path(folder) / "arena-hard-v0.1"


def cl100k_folder() -> Path:
    """The asset `cl100k-base` of this machine, obtained if need be; skips the test where it cannot be had."""
    try:
        return assets.fetch(CL100K_BASE.name)
    except (UserError, MissingDependency) as error:
        pytest.skip(str(error))


def install(cache: Path, monkeypatch: pytest.MonkeyPatch, **folders: Path) -> None:
    """Let `cache` be the place of assets, holding copies of `folders` (`arena_hard`, `cl100k_base`) as if fetched."""
    monkeypatch.setenv("AIPO_LAB_CACHE", str(cache))
    for asset in (ARENA_HARD, CL100K_BASE):
        monkeypatch.setitem(assets._ASSETS, asset.name, asset)
    for name, source in folders.items():
        folder = cache / "assets" / name.replace("_", "-")
        shutil.copytree(source, folder, copy_function=shutil.copyfile)
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != assets.MANIFEST]
        entries = {
            path.relative_to(folder).as_posix(): {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        }
        write_json(folder / assets.MANIFEST, {"name": folder.name, "files": entries})


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def v01_row(question: str, scores: Sequence[str | None], model: str = "m", **more: Any) -> dict[str, Any]:
    """A v0.1 judgment with a text that fits each score."""
    games = [
        {"user_prompt": "…", "judgment": f"\nMy verdict: [[{score}]]" if score else "\nHm.", "score": score}
        for score in scores
    ]
    return {"question_id": question, "model": model, "judge": "gpt-4-1106-preview", "games": games, **more}


def v2_row(question: str, scores: Sequence[str | None], model: str = "m", **more: Any) -> dict[str, Any]:
    """A v2 judgment; a score of None is a game that the judge did not reply to."""
    games = [
        {"score": score, "judgment": {"answer": f"[[{score}]]"}, "prompt": []} if score else None for score in scores
    ]
    row = {"uid": question, "category": "hard_prompt", "judge": "gpt-4.1", "model": model, "baseline": "o3-mini"}
    return {**row, "games": games, **more}


def v01_answer(question: str, text: str, tokens: int | None, model: str = "m") -> dict[str, Any]:
    turn: dict[str, Any] = {"content": text} if tokens is None else {"content": text, "token_len": tokens}
    choices = [{"index": 0, "turns": [turn]}]
    return {"question_id": question, "answer_id": "x", "model_id": model, "choices": choices, "tstamp": 1.0}


class ScriptedJudge:
    """A `Judge` in this process: replies by script, remembers replies and discards as the real one's store does."""

    name = "scripted"

    def __init__(self, reply: Callable[[JudgeRequest], str | Outcome], stored: Mapping[JudgeRequest, str] = {}) -> None:
        self.reply = reply
        self.stored = dict(stored)
        self.asked: list[JudgeRequest] = []
        self.discarded: dict[JudgeRequest, str] = {}

    def ask(self, requests: Sequence[JudgeRequest], progress: Progress) -> list[Outcome]:
        progress(len(requests), len(requests), "calls")
        return [self._outcome(request) for request in requests]

    def _outcome(self, request: JudgeRequest) -> Outcome:
        if request not in self.stored:
            self.asked.append(request)
            reply = self.reply(request)
            if not isinstance(reply, str):
                return reply
            self.stored[request] = reply
        return JudgeReply(self.stored[request], "stop", prompt_tokens=1, completion_tokens=1)

    def discard(self, request: JudgeRequest, reason: str) -> None:
        self.discarded[request] = reason

    def next_run(self) -> ScriptedJudge:
        """What a new judge object over the same store would be."""
        kept = {request: text for request, text in self.stored.items() if request not in self.discarded}
        return ScriptedJudge(self.reply, kept)


TEMPLATE = "Question: {question_1}\n<A>{answer_1}</A>\n<B>{answer_2}</B>"
"""A template of our own, with the official one's places."""


def answers_in(prompt: str) -> tuple[str, str]:
    """Assistant A's and B's answers in a user's message made from `TEMPLATE`."""
    _, a, _, b, _ = re.split("</?[AB]>", prompt)
    return a, b
