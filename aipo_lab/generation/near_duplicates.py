"""Telling instructions that say nearly the same: by the longest common subsequence of their words.

The measure is the ROUGE-L F score, with which self-instruct (arXiv 2212.10560) compares; RapidFuzz computes it as the
normalised Indel similarity of two sequences of words.
"""

from __future__ import annotations

from collections.abc import Iterable

PACKAGE = "rapidfuzz"
INSTALL = "pip install 'aipo-lab[near-duplicates]'"


_SURROGATES = range(0xD800, 0xE000)


class NearDuplicates:
    """Texts to compare with; two are nearly the same from a similarity of `threshold` (0 to 1) on.

    Every distinct word stands as one character, as RapidFuzz compares strings several times as fast as lists.
    """

    def __init__(self, threshold: float, texts: Iterable[str] = ()) -> None:
        self.threshold = threshold
        self._letters: dict[str, str] = {}
        self._known = [self._spelt(text) for text in texts]

    def has(self, text: str) -> bool:
        """Whether a known text is nearly this one."""
        from rapidfuzz.distance import Indel
        from rapidfuzz.process import extractOne

        spelt = self._spelt(text)
        return (
            extractOne(spelt, self._known, scorer=Indel.normalized_similarity, score_cutoff=self.threshold) is not None
        )

    def add(self, text: str) -> None:
        """Compare with this text too from now on."""
        self._known.append(self._spelt(text))

    def _spelt(self, text: str) -> str:
        return "".join(self._letters.setdefault(word, _letter(len(self._letters))) for word in _words(text))


def _letter(number: int) -> str:
    """The character of the word with that number; there are 1.1 million, words beyond share the last one."""
    code = number + 1 if number + 1 < _SURROGATES.start else number + 1 + len(_SURROGATES)
    return chr(min(code, 0x10FFFF))


def _words(text: str) -> list[str]:
    """Words without case and the punctuation around them."""
    words = [word.strip(".,;:!?\"'()[]").casefold() for word in text.split()]
    return [word for word in words if word]
