"""Self-instruct: the few-shot prompt, how instructions are read off completions, and which are kept.

Format and filters follow the official AIPO pipeline, without its defects: the text of an instruction is
neither re-capitalised nor cut at words that merely end in "a:".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

HEADER = "Come up with a series of tasks:"
EXCLUDED_WORDS = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps",
    "draw", "plot", "go to",
)  # fmt: skip
_EXCLUDED = re.compile(r"\b(" + "|".join(EXCLUDED_WORDS) + r")\b", re.IGNORECASE)
_ITEM = re.compile(r"\n\d+\s?\. ?")
_EXCLUDED_STARTS = ("Write a program", "Detailed instructions:", "Task definition:")


def few_shot_prompt(examples: Sequence[str]) -> str:
    """The completion prompt: a header, the numbered examples, and the next bare number."""
    lines = [f"{number}. {_tidy(example)}" for number, example in enumerate(examples, start=1)]
    return "\n".join([HEADER, "", *lines, f"{len(examples) + 1}."])


def stop_strings(n_examples: int, n_new: int) -> list[str]:
    """What ends a completion: an empty line, or the number after the last wanted instruction."""
    return ["\n\n", f"\n{n_examples + n_new + 1}."]


def split_instructions(completion: str, n_new: int) -> list[str]:
    """The first `n_new` instructions of a completion of `few_shot_prompt`, tidied; may be empty."""
    pieces = [_tidy(piece) for piece in _ITEM.split(completion)]
    return [piece for piece in pieces if piece][:n_new]


def _tidy(instruction: str) -> str:
    return " ".join(instruction.split()).rstrip(": ")


class InstructionFilter:
    """Decides instruction by instruction, and counts why the others were dropped."""

    def __init__(
        self,
        count_tokens: Callable[[str], int],
        min_tokens: int,
        max_tokens: int,
        is_instruction: Callable[[str], bool] | None,
        known: Sequence[str] = (),
        held_out: Sequence[str] = (),
    ) -> None:
        self.count_tokens = count_tokens
        self.min_tokens = min_tokens
        self.max_tokens = max_tokens
        self.is_instruction = is_instruction
        self.seen = set(known)
        self.held_out = set(held_out)
        self.counts: Counter[str] = Counter()

    def keep(self, instruction: str) -> bool:
        """Whether the instruction passes every filter and is not one seen before."""
        reason = self._reason_to_drop(instruction)
        self.counts[reason or "kept"] += 1
        if reason is None:
            self.seen.add(instruction)
        return reason is None

    def _reason_to_drop(self, text: str) -> str | None:
        n_tokens = self.count_tokens(text)
        if n_tokens < self.min_tokens:
            return "too_short"
        if n_tokens > self.max_tokens:
            return "too_long"
        if _EXCLUDED.search(text):
            return "excluded_word"
        if text.startswith(_EXCLUDED_STARTS) or not text[0].isascii() or not text[0].isalnum():
            return "excluded_start"
        if self.is_instruction is not None and not self.is_instruction(text):
            return "malformed"
        if text in self.held_out:
            return "benchmark_prompt"
        if text in self.seen:
            return "duplicate"
        return None
