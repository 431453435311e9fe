"""Answer lengths as Arena-Hard v0.1 counts them: tokens of gpt-3.5-turbo, whose encoding is cl100k_base."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aipo_lab.assets.arena_hard import CL100K_BASE, CL100K_FILE, CL100K_SHA256
from aipo_lab.assets.asset import require_hash
from aipo_lab.assets.library import find
from aipo_lab.benchmarks.arena_hard.formats import ModelAnswers
from aipo_lab.core.errors import MissingDependency

CountTokens = Callable[[Sequence[str]], list[int]]
"""From texts to their lengths in tokens."""

_environment_lock = threading.Lock()


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text; what looks like a special token is counted as ordinary text, as officially.

    Raises `UserError` when the asset `cl100k-base` is missing and `MissingDependency` without tiktoken.
    """
    encoding = cl100k_encoding(find(CL100K_BASE.name))
    return [len(tokens) for tokens in encoding.encode_ordinary_batch(list(texts))]


def token_lengths(answers: ModelAnswers, count: CountTokens = count_tokens) -> dict[str, int]:
    """The length of every answer by question: the known one, else `count`ed (with the errors of `count_tokens`)."""
    unknown = [question for question in answers.texts if question not in answers.tokens]
    counted = count([answers.texts[question] for question in unknown]) if unknown else []
    lengths = answers.tokens | dict(zip(unknown, counted, strict=True))
    return {question: lengths[question] for question in answers.texts}


def cl100k_encoding(folder: Path) -> Any:
    """The `tiktoken.Encoding` from the file in `folder`, without network.

    tiktoken takes encoding files from the folder that `TIKTOKEN_CACHE_DIR` names. Raises `UserError` if the file is
    not the pinned one (tiktoken would delete it and go to the network) and `MissingDependency` without tiktoken.
    """
    try:
        import tiktoken
    except ImportError:
        raise MissingDependency(
            "counting Arena-Hard's tokens needs tiktoken; install with: pip install 'aipo-lab[benchmarks]'"
        ) from None
    require_hash(folder / CL100K_FILE, CL100K_SHA256)
    with _environment_lock:
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        try:
            return tiktoken.get_encoding("cl100k_base")
        finally:
            if before is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = before
