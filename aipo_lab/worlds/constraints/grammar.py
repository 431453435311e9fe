"""The form of an instruction: one request, then one to four constraint sentences that do not clash."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aipo_lab.worlds.constraints.rules import Check, checks_of
from aipo_lab.worlds.constraints.text import words_of

MAX_CONSTRAINT_SENTENCES = 4
REQUEST_WORDS = range(3, 31)
_SENTENCE_GAP = re.compile(r"(?<=[.!?])\s+")
_CONSTRAINT_IN_REQUEST = re.compile(r"\bthe words?\b|[\"‘’“”]|(?<!\w)'|'(?!\w)", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """An instruction taken apart: what is asked for, and the checks of its constraints in order."""

    request: str
    checks: tuple[Check, ...]


def parse_instruction(text: str) -> Instruction | None:
    """Take an instruction apart; None when it is not of this world's form."""
    if "\n" in text.strip():
        return None
    request, *constraints = _SENTENCE_GAP.split(text.strip())
    if not _is_request(request) or not 1 <= len(constraints) <= MAX_CONSTRAINT_SENTENCES:
        return None
    checks: list[Check] = []
    for sentence in constraints:
        found = checks_of(sentence.rstrip(".!"))
        if not found:
            return None
        checks += found
    subjects = [check.subject for check in checks]
    return Instruction(request, tuple(checks)) if len(set(subjects)) == len(subjects) else None


def _is_request(sentence: str) -> bool:
    return (
        sentence[:1].isalpha()
        and sentence[:1].isupper()
        and sentence[-1] in ".!?"
        and len(words_of(sentence)) in REQUEST_WORDS
        and not _CONSTRAINT_IN_REQUEST.search(sentence)
        and not checks_of(sentence.rstrip(".!"))
    )
