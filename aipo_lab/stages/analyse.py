"""Stage `analyse`: how alike chosen and rejected are, and what the policy that wrote them thinks of each.

The pairs of iteration t under theta_t: the data of the AIPO paper's Table 2 and of its Figures 5 and 6. Output
`analysis.jsonl`, a row a pair: `id`, `similarity` (or `word_similarity`), `chosen_logps` and `rejected_logps` (sums in
nats, from the reference stage), `chosen_tokens` and `rejected_tokens`, `length_difference_tokens` (|y_w| - |y_l|),
`s_ref`; and `metrics.json`, by name `value`, `se` and `n`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from aipo_lab.assets.library import find
from aipo_lab.assets.minilm import FILE_SHA256, MAX_TOKENS, MINILM, WEIGHTS
from aipo_lab.benchmarks.length_control import mean_estimate
from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.jsonl import iterate_jsonl, write_json, write_jsonl
from aipo_lab.curation.correlation import pearson, spearman
from aipo_lab.curation.pair_statistics import word_similarity
from aipo_lab.models.sentences import SentenceEncoder
from aipo_lab.stages.definition import StageContext, stage

Similarity = Literal["sentence", "words", "none"]


class AnalysisSettings(StrictModel):
    """A recipe's `analysis` section."""

    similarity: Similarity = Field(
        "sentence",
        description="how alike chosen and rejected are. sentence: cosine of their all-MiniLM-L6-v2 vectors (asset "
        "minilm-l6-v2), as the paper's Table 2; words: the share of words they have in common, without a model; none",
    )

    def key_values(self) -> dict[str, Any]:
        """The settings as they stand in the stage's key; the encoder is there by the hash of its weights."""
        encoder = {"encoder": FILE_SHA256[WEIGHTS]} if self.similarity == "sentence" else {}
        return self.model_dump(mode="json") | encoder


class AnalyseConfig(AnalysisSettings):
    """All that determines the analysis besides the pairs and their log-probabilities."""

    encoder: str | None = Field(None, description="SHA-256 of the sentence encoder's weights, where it is used")


@stage("analyse", version=1, config=AnalyseConfig)
def analyse(context: StageContext[AnalyseConfig]) -> Mapping[str, Any]:
    """Write `analysis.jsonl` and `metrics.json`."""
    logps = {row["id"]: row for row in iterate_jsonl(context.inputs["reference"].file("reference.jsonl"))}
    every = list(iterate_jsonl(context.inputs["pairs"].file("pairs.jsonl")))
    pairs = [row for row in every if row["id"] in logps]  # the reference leaves out what is past the training's limits
    if not pairs:
        raise StageFailed(f"none of {len(every)} pairs is within the limits of the training; raise the train section's")
    rows = [_row(pair, logps[pair["id"]]) for pair in pairs]
    name = SIMILARITY_METRIC[context.config.similarity]
    if name is not None:
        for row, similarity in zip(rows, _similarities(pairs, context), strict=True):
            row[name] = similarity
    write_jsonl(context.folder / "analysis.jsonl", rows)
    write_json(context.folder / "metrics.json", metrics(rows))
    return {"pairs": len(rows), "past_limits": len(every) - len(pairs)}


SIMILARITY_METRIC: Mapping[Similarity, str | None] = {
    "sentence": "similarity",
    "words": "word_similarity",
    "none": None,
}


def _row(pair: Mapping[str, Any], logps: Mapping[str, Any]) -> dict[str, Any]:
    chosen, rejected = logps["chosen_logps"], logps["rejected_logps"]
    return {
        "id": pair["id"],
        "chosen_logps": chosen,
        "rejected_logps": rejected,
        "chosen_tokens": pair["chosen_tokens"],
        "rejected_tokens": pair["rejected_tokens"],
        "length_difference_tokens": pair["chosen_tokens"] - pair["rejected_tokens"],
        "s_ref": chosen - rejected,
    }


def _similarities(pairs: Sequence[Mapping[str, Any]], context: StageContext[AnalyseConfig]) -> list[float]:
    """The similarity of chosen and rejected of every pair, as texts."""
    texts = [[pair[role][-1]["content"] for role in ("chosen", "rejected")] for pair in pairs]
    if context.config.similarity == "words":
        return [word_similarity(*both) for both in texts]
    assert context.config.encoder is not None
    encoder = SentenceEncoder(encoder_folder(context.config.encoder), MAX_TOKENS, context.runtime.device)
    vectors = encoder.encode(
        [text for both in texts for text in both], lambda done, total: context.progress(done, total, "texts")
    )
    cosines: list[float] = (vectors[0::2] * vectors[1::2]).sum(dim=1).clamp(-1, 1).tolist()
    return cosines


def encoder_folder(sha256: str) -> Path:
    """The folder of the sentence encoder with these weights; raises `StageFailed` if it is not there, or another."""
    try:
        folder = find(MINILM.name)
    except UserError as error:
        raise StageFailed(str(error)) from None
    if sha256_of(folder / WEIGHTS) != sha256:
        raise StageFailed(f"{folder / WEIGHTS} is not the file that was pinned; remove {folder} and fetch it again")
    return folder


def metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The metrics of rows of `analysis.jsonl`; a coefficient of something constant is left out.

    Standard errors are over pairs. Figure 5 sets the log-probability of every response against its length, Figure 6
    s_ref against the difference in length. `agreement` is the share of pairs with s_ref > 0 in percent: policy and
    ranker prefer the same response.
    """
    similarity = next((name for name in ("similarity", "word_similarity") if name in rows[0]), None)
    logps = [[row["chosen_logps"], row["rejected_logps"]] for row in rows]
    tokens = [[row["chosen_tokens"], row["rejected_tokens"]] for row in rows]
    difference, s_ref = ([row[name] for row in rows] for name in ("length_difference_tokens", "s_ref"))
    made: dict[str, Any] = {} if similarity is None else {similarity: mean_estimate([row[similarity] for row in rows])}
    for column, role in enumerate(("chosen", "rejected")):
        made[f"{role}_logps"] = mean_estimate([one[column] for one in logps])
        per_token = [one[column] / n[column] for one, n in zip(logps, tokens, strict=True)]
        made[f"{role}_logps_per_token"] = mean_estimate(per_token)
        made[f"{role}_tokens"] = mean_estimate([n[column] for n in tokens])
    made["length_difference_tokens"] = mean_estimate(difference)
    made["s_ref"] = mean_estimate(s_ref)
    made["agreement"] = mean_estimate([value > 0 for value in s_ref], 100)
    made |= {"logps_length_pearson": pearson(tokens, logps), "logps_length_spearman": spearman(tokens, logps)}
    made |= {"s_ref_length_pearson": pearson(difference, s_ref), "s_ref_length_spearman": spearman(difference, s_ref)}
    return {name: {"value": e.value, "se": e.se, "n": e.n} for name, e in made.items() if e is not None}
