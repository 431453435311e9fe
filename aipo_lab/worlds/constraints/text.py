"""How answers are read: their words, their sentences, and whether they go round in circles."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_ABBREVIATION = re.compile(r"\b(Mr|Mrs|Ms|Dr|St|vs|etc|e\.g|i\.e)\.", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)*]*\s+|\n+")
_CLOSING = "\"'”’)*_ \n\t"

REPEAT_MIN_WORDS = 12
REPEAT_MIN_DISTINCT_SHARE = 0.6


def words_of(text: str) -> list[str]:
    """The words of `text` in lower case; "don't" and "well-known" are one word each."""
    return [match.group().lower().replace("’", "'") for match in _WORD.finditer(text)]


def sentences_of(text: str) -> list[str]:
    """The sentences of `text`: ended by . ! ? or a line break, and holding at least one letter.

    So the "1." of a numbered line is no sentence of its own, and a title on its own line is one.
    """
    unabbreviated = _ABBREVIATION.sub(lambda match: match.group().replace(".", ""), text)
    pieces = (piece.strip() for piece in _SENTENCE_END.split(unabbreviated))
    return [piece for piece in pieces if re.search(r"[^\W\d_]", piece)]


def last_mark_of(text: str) -> str:
    """The last character that is not white space, a quotation mark or a bracket; "" if there is none."""
    return text.rstrip(_CLOSING)[-1:]


def repeats_itself(text: str) -> bool:
    """Whether `text` goes round in circles: of its three-word sequences too few are distinct.

    The bounds are `REPEAT_MIN_WORDS` (shorter texts never do) and `REPEAT_MIN_DISTINCT_SHARE`.
    """
    words = words_of(text)
    if len(words) < REPEAT_MIN_WORDS:
        return False
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(triples)) < REPEAT_MIN_DISTINCT_SHARE * len(triples)
