"""Ranked rows as the rank stage writes them, for the tests of selection and filters."""

from __future__ import annotations

from typing import Any

from aipo_lab.stages.rank import competition_ranks


def ranked(
    scores: list[float],
    tokens: list[int] | None = None,
    texts: list[str] | None = None,
    reasons: list[str] | None = None,
    identifier: str = "000001",
    prompt: str = "the prompt",
) -> dict[str, Any]:
    n = len(scores)
    columns = (texts or [f"text {i}" for i in range(n)], tokens or [10] * n, reasons or ["stop"] * n)
    return {
        "id": identifier,
        "prompt": prompt,
        "prompt_token_ids": [1, 2, 3],
        "responses": [
            {"text": text, "tokens": length, "token_ids": [9] * length, "finish_reason": reason}
            for text, length, reason in zip(*columns, strict=True)
        ],
        "scores": scores,
        "ranks": competition_ranks(scores),
    }
