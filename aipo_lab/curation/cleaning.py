"""Rules by which a response's text is unfit to learn from: leaked templates, refusals, repetition, script, no end.

Each says yes or no of one text, whatever the model; phrases and markers are data files beside this module.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

REFUSAL_WINDOW_CHARS = 200
"""A refusal is said at the beginning; further on the same words may be part of an answer."""

SCRIPTS = (
    "ARABIC",
    "ARMENIAN",
    "BENGALI",
    "CJK",
    "CYRILLIC",
    "DEVANAGARI",
    "ETHIOPIC",
    "GEORGIAN",
    "GREEK",
    "GUJARATI",
    "GURMUKHI",
    "HANGUL",
    "HEBREW",
    "HIRAGANA",
    "KANNADA",
    "KATAKANA",
    "KHMER",
    "LAO",
    "LATIN",
    "MALAYALAM",
    "MYANMAR",
    "SINHALA",
    "TAMIL",
    "TELUGU",
    "THAI",
    "TIBETAN",
)
"""Scripts by the word with which Unicode's names of their letters begin."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_SPECIAL = re.compile(r"<[|｜][^\s|｜<>]{1,40}[|｜]>")
_LONG_WORD_CHARS = 24
_PIECE_CHARS = 4
_OPEN_ENDINGS = (*",;:-–—([{/\\&+=", "...", "…")


def repeated_share(text: str, ngram_words: int) -> float:
    """Share of the text's n-grams of words that occurred before in it, 0 to 1; 0 for a text of fewer words.

    A character of a script without spaces is a word; a word of more than 24 characters is as many words as it has
    pieces of 4, so that `hahaha…` counts as repetition.
    """
    words = [piece for word in _WORD.findall(text.casefold()) for piece in _pieces(word)]
    n_grams = [tuple(words[i : i + ngram_words]) for i in range(len(words) - ngram_words + 1)]
    return 1 - len(set(n_grams)) / len(n_grams) if n_grams else 0.0


def _pieces(word: str) -> list[str]:
    if len(word) <= _LONG_WORD_CHARS:
        return [word]
    return [word[i : i + _PIECE_CHARS] for i in range(0, len(word), _PIECE_CHARS)]


def is_refusal(text: str, more_phrases: Sequence[str] = ()) -> bool:
    """Whether the text begins by declining: a phrase of `refusals.txt` or of `more_phrases` in its first characters."""
    beginning = _plain(text)[:REFUSAL_WINDOW_CHARS]
    phrases = (*_lines("refusals.txt"), *map(_plain, more_phrases))
    return any(re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", beginning) for phrase in phrases)


def _plain(text: str) -> str:
    """Small letters, straight apostrophes, single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("‘", "'")
    return " ".join(folded.split())


def script_share(text: str, scripts: Sequence[str]) -> float:
    """Share of the text's letters that belong to one of `scripts`, 0 to 1; 1 for a text without letters."""
    letters = [letter for letter in unicodedata.normalize("NFKC", text) if letter.isalpha()]
    if not letters:
        return 1.0
    return sum(_script(letter) in scripts for letter in letters) / len(letters)


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0]


def leaks_template(text: str, special_tokens: Iterable[str] = ()) -> bool:
    """Whether the text holds what only a template writes.

    That is a special token, a marker of `template_markers.txt`, anything like `<|...|>`, or a line that is or begins
    with the name of a speaker: what is left of a template where special tokens were taken out.
    """
    markers = _lines("template_markers.txt")
    speakers = {marker.casefold() for marker in markers if marker[0].isalpha()}
    signs = {marker for marker in markers if not marker[0].isalpha()} | set(filter(_is_sign, special_tokens))
    lines = [line.strip().casefold() for line in text.splitlines()]
    return (
        any(sign in text for sign in signs)
        or _SPECIAL.search(text) is not None
        or any(line.startswith(speaker) or f"{line}:" == speaker for line in lines for speaker in speakers)
    )


def _is_sign(token: str) -> bool:
    """Whether a special token cannot be an ordinary word: `<|end|>` is a sign, `a` and ` ` are not."""
    return len(token.strip()) >= 3 and not token.strip().isalnum()


def is_unfinished(text: str) -> bool:
    """Whether the text breaks off: after a sign that something must follow, or inside a block of code."""
    ended = text.rstrip()
    return ended.endswith(_OPEN_ENDINGS) or sum(line.lstrip().startswith("```") for line in text.splitlines()) % 2 == 1


@cache
def _lines(name: str) -> tuple[str, ...]:
    text = (resources.files("aipo_lab.curation") / name).read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("# "))
