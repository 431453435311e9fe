"""What PairRM reads: source and two candidates as `[CLS] prefix … [SEP]` each, one behind the other.

Truncation is decided for each prompt alone, as llm-blender does at batch size 1. The places of the prefixes follow from
how a sequence is built and are never sought in it, so no text of a user can be taken for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.unicode import repaired
from aipo_lab.ranking.pairrm.checkpoint import Checkpoint

SOURCE, CANDIDATE1, CANDIDATE2, CANDIDATE = "<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"
PREFIXES = (SOURCE, CANDIDATE1, CANDIDATE2, CANDIDATE)
STATED = {"source_prefix_id": SOURCE, "cand1_prefix_id": CANDIDATE1, "cand2_prefix_id": CANDIDATE2}

Segment = tuple[int, ...]


@dataclass(frozen=True)
class PairSequence:
    """One comparison: the tokens, and where the three prefixes stand."""

    tokens: Segment
    places: tuple[int, int, int]


class PairTokens:
    """Turns texts into sequences. Raises `StageFailed` if the tokenizer is not one of a PairRM checkpoint."""

    def __init__(self, tokenizer: Any, checkpoint: Checkpoint) -> None:
        tokenizer.add_tokens(list(PREFIXES))
        self._tokenizer = tokenizer
        self._limits = checkpoint.limits
        self._ids: dict[str, int] = {prefix: int(tokenizer.convert_tokens_to_ids(prefix)) for prefix in PREFIXES}
        self._separator = str(tokenizer.sep_token)
        stated = {STATED[name]: token for name, token in checkpoint.stated_ids.items() if name in STATED}
        if wrong := [
            f"{prefix} is {self._ids[prefix]}, not {token}"
            for prefix, token in stated.items()
            if self._ids[prefix] != token
        ]:
            raise StageFailed(
                f"the tokenizer in {checkpoint.backbone} does not fit its config.json: {', '.join(wrong)}"
            )
        begin, *_, end = self._whole(SOURCE, ["a"])[0] or (None, None)
        if begin != tokenizer.cls_token_id or end != tokenizer.sep_token_id:
            raise StageFailed(f"the tokenizer in {checkpoint.backbone} does not put [CLS] and [SEP] around a text")

    @property
    def n_tokens(self) -> int:
        """How many embeddings the tokens need."""
        return len(self._tokenizer)

    def source(self, text: str) -> Segment:
        """The segment of a prompt."""
        return _cut(self._whole(SOURCE, [text])[0], self._limits[0])

    def candidates(self, texts: Sequence[str], source: Segment) -> list[Segment]:
        """The segments of its candidates, which share what the source left of its room."""
        source_tokens, candidate_tokens = self._limits
        limit = candidate_tokens + (source_tokens - len(source)) // 2
        return [_cut(whole, limit) for whole in self._whole(CANDIDATE, texts)]

    def sequence(self, source: Segment, left: Segment, right: Segment) -> PairSequence:
        """The comparison of `left`, in the first place, with `right`."""
        first = len(source) + 1
        second = first + len(left)
        tokens = [*source, *left, *right]
        tokens[first], tokens[second] = self._ids[CANDIDATE1], self._ids[CANDIDATE2]
        return PairSequence(tuple(tokens), (1, first, second))

    def _whole(self, prefix: str, texts: Sequence[str]) -> list[Segment]:
        """The whole segments of texts: llm-blender's rule for [SEP] (a space instead), for the prefixes as well."""
        if not texts:
            return []
        encoded = self._tokenizer([prefix + self._clean(text) for text in texts])["input_ids"]
        return [self._without_prefixes(tokens) for tokens in encoded]

    def _clean(self, text: str) -> str:
        for token in (self._separator, *PREFIXES):
            text = text.replace(token, " ")
        return repaired(text)

    def _without_prefixes(self, tokens: Sequence[int]) -> Segment:
        """Without prefixes inside that the tokenizer made of other characters; [CLS] and the own prefix stay."""
        inside = set(self._ids.values())
        return (*tokens[:2], *(token for token in tokens[2:] if token not in inside))


def _cut(segment: Segment, limit: int) -> Segment:
    """At most `limit` tokens: the end of the text is cut off, [SEP] stays."""
    return segment if len(segment) <= limit else (*segment[: limit - 1], segment[-1])
