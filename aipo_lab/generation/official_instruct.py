"""Self-instruct exactly as the official AIPO code does it, defects included, for comparison with its results.

Rules: AIPO at commit 3217a73, as measured there: every instruction is re-capitalised ("USA" becomes "usa") and cut at
words that merely end in "a:"; nothing is compared with what was written before. `aipo_lab.generation.self_instruct` has
the same format without the defects.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from aipo_lab.generation.self_instruct import EXCLUDED_WORDS, HEADER

_ITEM = re.compile(r"\n\d+\s?\. ")
_SPACES = re.compile(r"\s+")
_EXCLUDED = re.compile(r"\b(" + "|".join(EXCLUDED_WORDS) + r")\b", re.IGNORECASE)
_EXCLUDED_STARTS = ("Write a program", *string.punctuation)
_EXCLUDED_FORMS = ("Detailed instructions:", "Task definition:")
_CUT_AT = ("answer:", "output:", "solution:", "a:")


def official_prompt(examples: Sequence[str]) -> str:
    """The completion prompt: of an example, white space becomes single spaces and final colons go."""
    lines = [f"{n}. {_SPACES.sub(' ', example).strip().rstrip(':')}" for n, example in enumerate(examples, start=1)]
    return "\n".join([HEADER, "", *lines, f"{len(examples) + 1}."])


def official_stop_strings(n_examples: int, n_new: int) -> list[str]:
    """What ends a completion; the last three wherever they occur, so inside an instruction too."""
    number = n_examples + n_new + 1
    return ["\n\n", f"\n{number}", f"{number}.", f"{number} ."]


class OfficialFilter:
    """Reads the instructions off completions that pass the official filters, and counts why others were dropped.

    `count_tokens` counts cl100k tokens, of which an instruction must have `min_tokens` to `max_tokens`.
    """

    def __init__(self, count_tokens: Callable[[str], int], min_tokens: int, max_tokens: int) -> None:
        self.count_tokens = count_tokens
        self.min_tokens = min_tokens
        self.max_tokens = max_tokens
        self.counts: Counter[str] = Counter()

    def read(self, completion: str) -> list[str]:
        """The instructions kept; some may be cut short, even to nothing, as their lengths are counted before."""
        kept = []
        for piece in _ITEM.split(completion):
            text = _SPACES.sub(" ", piece).strip().capitalize()
            reason = self._reason_to_drop(text)
            if reason is None:
                kept.append(_cut(text))
            self.counts[reason or ("kept" if kept[-1] == text else "kept_cut")] += 1
        return kept

    def _reason_to_drop(self, text: str) -> str | None:
        if not text:
            return "empty"
        n_tokens = self.count_tokens(text)
        if n_tokens < self.min_tokens:
            return "too_short"
        if n_tokens > self.max_tokens:
            return "too_long"
        if _EXCLUDED.search(text):
            return "excluded_word"
        if text.startswith(_EXCLUDED_STARTS) or not text[0].isascii() or text.startswith(_EXCLUDED_FORMS):
            return "excluded_start"
        return None


def _cut(text: str) -> str:
    """The text up to each of `_CUT_AT` in turn, wherever the letters occur; whole if it has an example."""
    if "example:" in text.lower():
        return text
    for word in _CUT_AT:
        place = text.lower().find(word)
        if place >= 0:
            text = text[:place].strip()
    return text
