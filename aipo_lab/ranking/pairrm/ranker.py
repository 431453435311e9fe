"""The `pairrm` ranker: texts to comparisons to scores, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.progress import Progress
from aipo_lab.ranking.pairrm.checkpoint import Checkpoint, find_checkpoint
from aipo_lab.ranking.pairrm.comparing import Match, best_worst_scores, full_scores
from aipo_lab.ranking.pairrm.settings import PairRMSettings
from aipo_lab.ranking.pairrm.tokens import PairSequence, Segment
from aipo_lab.ranking.ranker import RANKERS, Ranker, RankerContext, RankerDefinition, RankerResources


def resources(settings: PairRMSettings) -> RankerResources:
    """The checkpoint, by its content; see `find_checkpoint` for errors."""
    checkpoint = find_checkpoint(settings.model)
    if settings.backend == "llm_blender":
        from aipo_lab.ranking.pairrm.blender import check_usable

        check_usable(checkpoint)
    return RankerResources({"model": checkpoint.fingerprint()}, {"checkpoint": str(checkpoint.folder)})


def open_pairrm(settings: PairRMSettings, context: RankerContext) -> Ranker:
    """The ranker with its checkpoint in memory."""
    checkpoint = find_checkpoint(context.folders["checkpoint"])
    if settings.backend == "llm_blender":
        from aipo_lab.ranking.pairrm.blender import BlenderRanker

        return BlenderRanker(checkpoint, context.device)
    ranker = PairRMRanker(settings, checkpoint, context.device)
    return BestWorstRanker(ranker, settings.agreement_rows) if settings.mode == "best_worst" else ranker


class PairRMRanker:
    """Scores from all pairs of candidates, both orders."""

    def __init__(self, settings: PairRMSettings, checkpoint: Checkpoint, device: str) -> None:
        from aipo_lab.ranking.pairrm.loading import load_network, load_tokenizer
        from aipo_lab.ranking.pairrm.network import PairNetwork
        from aipo_lab.ranking.pairrm.tokens import PairTokens

        self._tokens = PairTokens(load_tokenizer(checkpoint), checkpoint)
        self._network = PairNetwork(*load_network(checkpoint, device, settings.dtype), settings.batch_tokens)
        if self._tokens.n_tokens > self._network.n_embeddings:
            raise StageFailed(
                f"the tokenizer of {checkpoint.folder} has {self._tokens.n_tokens} tokens, but its weights have only "
                f"{self._network.n_embeddings} embeddings; they do not belong together"
            )
        self.comparisons = 0

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """See `Ranker.scores`."""
        return iter(self.scores_by(full_scores, rows, progress))

    def scores_by(self, rule: Any, rows: Sequence[Mapping[str, Any]], progress: Progress) -> list[list[float]]:
        """Scores by a rule of `comparing`."""
        texts = [_Row(self, row) for row in rows]

        def compare(matches: Sequence[Match]) -> list[float]:
            self.comparisons += len(matches)
            sequences = [texts[row].sequence(i, j) for row, i, j in matches]
            return self._network.logits(
                sequences, lambda done, total: progress(done * len(rows) // total, len(rows), "prompts")
            )

        distinct = rule([one.copies for one in texts], compare)
        return [[scores[number] for number in one.numbers] for one, scores in zip(texts, distinct, strict=True)]

    def segments(self, prompt: str, responses: Sequence[str]) -> tuple[Segment, list[Segment]]:
        """The tokens of a prompt and its candidates."""
        source = self._tokens.source(prompt)
        return source, self._tokens.candidates(responses, source)

    def sequence(self, source: Segment, left: Segment, right: Segment) -> PairSequence:
        """The tokens of a comparison."""
        return self._tokens.sequence(source, left, right)


class _Row:
    """One prompt: its distinct candidates in the order of their tokens, and which of them each candidate is."""

    def __init__(self, ranker: PairRMRanker, row: Mapping[str, Any]) -> None:
        self._ranker = ranker
        self._source, segments = ranker.segments(row["prompt"], [one["text"] for one in row["responses"]])
        self._distinct = sorted(set(segments))
        places = {segment: number for number, segment in enumerate(self._distinct)}
        self.numbers = [places[segment] for segment in segments]
        self.copies = [self.numbers.count(number) for number in range(len(self._distinct))]

    def sequence(self, i: int, j: int) -> PairSequence:
        """The comparison of distinct candidates i and j."""
        return self._ranker.sequence(self._source, self._distinct[i], self._distinct[j])


class BestWorstRanker:
    """Scores from a tournament, and how often its best and worst are those of the full matrix."""

    def __init__(self, ranker: PairRMRanker, agreement_rows: int) -> None:
        self._ranker, self._agreement_rows = ranker, agreement_rows

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """See `Ranker.scores`."""
        return iter(self._ranker.scores_by(best_worst_scores, rows, progress))

    def summary(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Mapping[str, Any]:
        """Agreement with the full matrix in percent of `agreement_rows` evenly chosen prompts that have a best."""
        decided = [row for row in rows if max(row["scores"]) > 0]
        sample = decided[:: max(1, -(-len(decided) // self._agreement_rows))]
        full = self._ranker.scores_by(full_scores, sample, progress)
        best = sum(_holds(row["scores"], 1.0, one, max(one)) for row, one in zip(sample, full, strict=True))
        worst = sum(_holds(row["scores"], -1.0, one, min(one)) for row, one in zip(sample, full, strict=True))
        share = 100 / max(1, len(sample))
        return {
            "agreement_prompts": len(sample),
            "agreement_best_percent": round(best * share, 1),
            "agreement_worst_percent": round(worst * share, 1),
        }


def _holds(marks: Sequence[float], mark: float, full: Sequence[float], extreme: float) -> bool:
    """Whether a candidate with the mark has the extreme score of the full matrix."""
    return any(one == mark and score == extreme for one, score in zip(marks, full, strict=True))


RANKERS.add("pairrm", RankerDefinition(settings=PairRMSettings, open=open_pairrm, resources=resources))
