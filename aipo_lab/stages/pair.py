"""Stage `pair`: pairs of candidates of every prompt, by default the best against the worst, then the filters.

Output `pairs.jsonl`: TRL's conversational preference format (`prompt`, `chosen`, `rejected` as message lists)
plus `id`, `prompt_token_ids` and, for both responses, `…_score`, `…_win_rate` (mean probability of beating the prompt's
candidates by these scores), `…_tokens`, `…_token_ids` and `…_finish_reason`. The token ids are there if the
ranked rows have them; training uses them and not the texts. Scores are the ranker's, less the price of length where
selection has one. Where a prompt may have several pairs, their ids are the prompt's with `/1`, `/2`, … Pairs of
judgments that a judge's ranking made (`judge_pairs.jsonl`) follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import iterate_jsonl, read_jsonl, write_jsonl
from aipo_lab.core.seeds import derive_seed
from aipo_lab.curation.candidates import Candidate, candidates_of, without_duplicates
from aipo_lab.curation.filters import FilterSettings, pair_problem, prompt_problem, text_problem
from aipo_lab.curation.pair_statistics import pair_statistics
from aipo_lab.curation.selection import PairOf, SelectSettings, select
from aipo_lab.models.chat import bare_tokens, user_message
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.policy_folder import policy_folder
from aipo_lab.stages.rank import JUDGE_PAIRS


class PairSettings(StrictModel):
    """Which pairs are kept. Defaults are the official pipeline's rules."""

    max_response_tokens: int = Field(
        2048, ge=1, description="pairs with a response longer than this many tokens are dropped and counted"
    )
    drop_truncated: bool = Field(True, description="drop pairs in which a response ran into the generation cap")
    drop_urls: bool = Field(True, description="drop pairs whose chosen response contains http:// or https://")
    select: SelectSettings = Field(default_factory=SelectSettings, description="how candidates are paired")
    filters: FilterSettings = Field(default_factory=FilterSettings, description="more reasons to drop a pair")

    def key_values(self) -> dict[str, Any]:
        """The settings as they stand in the stage's key: of the sections, what differs from the defaults."""
        sections = {name: getattr(self, name).model_dump(mode="json", exclude_defaults=True) for name in SECTIONS}
        given = {name: values for name, values in sections.items() if values}
        return self.model_dump(mode="json", exclude=set(SECTIONS)) | given


SECTIONS = ("select", "filters")


class PairConfig(PairSettings):
    """All that determines the pairs besides the ranking, and the policy's tokenizer where filters need it."""

    seed: int | None = Field(None, description="seed of rules that draw at random; none: no such rule")


@stage("pair", version=3, config=PairConfig)
def pair(context: StageContext[PairConfig]) -> Mapping[str, Any]:
    """Write `pairs.jsonl`; the summary counts the pairs kept and dropped, and prompts without a pair, by reason.

    `statistics` in it is what the data linter judges.
    """
    maker = PairMaker(context.config, _tokenizer(context))
    pairs = [made for row in iterate_jsonl(context.inputs["ranking"].file("ranking.jsonl")) for made in maker.of(row)]
    if not pairs:
        raise StageFailed(f"no pair was left: {dict(maker.counts)}; {_remedy(maker.counts)}")
    about_judging = _judge_pairs(context)
    write_jsonl(context.folder / "pairs.jsonl", [*pairs, *about_judging])
    statistics = pair_statistics(pairs).as_summary()
    removed = {"candidates_removed": dict(sorted(maker.removed.items()))} if maker.removed else {}
    judging = {"judge_pairs": len(about_judging)} if about_judging else {}
    counts = dict(sorted(maker.counts.items()))
    return {"pairs": len(pairs), "counts": counts, **removed, **judging, "statistics": statistics}


def _judge_pairs(context: StageContext[PairConfig]) -> list[dict[str, Any]]:
    """Pairs of judgments that the ranker made; they come as they are, behind the pairs of responses."""
    path = context.inputs["ranking"].path / JUDGE_PAIRS
    return read_jsonl(path) if path.is_file() else []


def _remedy(counts: Mapping[str, int]) -> str:
    """What to do when no pair is left: settings of this stage do not tell apart what the ranker holds equal."""
    if counts.keys() <= {"all_tied", "same_text"}:
        return (
            "the candidates of every prompt are equal in score or text; raise respond.sampling.temperature or "
            "respond.n_candidates, or use another ranker"
        )
    return "loosen the `pair` section of the recipe"


def _tokenizer(context: StageContext[PairConfig]) -> Any:
    if not context.config.filters.needs_tokenizer:
        return None
    from aipo_lab.models.policy import load_tokenizer

    return load_tokenizer(policy_folder(context))


class PairMaker:
    """Makes the pairs of ranked rows and counts what it leaves out.

    `counts`: pairs kept and dropped and prompts without a pair, by reason. `removed`: candidates taken out before
    selection, by reason. The tokenizer is needed for `filters.needs_tokenizer`.
    """

    def __init__(self, config: PairConfig, tokenizer: Any = None) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.special_tokens = [] if tokenizer is None else _special_tokens(tokenizer)
        self.counts: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()

    def of(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The pairs of a ranked row that are kept."""
        pairs, reason = self._selected(row)
        if reason is not None:
            self.counts[reason] += 1
        kept = []
        for one in pairs:
            reason = self._problem(row, one)
            self.counts[reason or "kept"] += 1
            if reason is None:
                kept.append(one)
        several = self.config.select.pairs_per_prompt > 1
        return [pair_row(row, one, f"/{n}" if several else "") for n, one in enumerate(kept, start=1)]

    def _selected(self, row: Mapping[str, Any]) -> tuple[list[PairOf], str | None]:
        """The pairs that selection makes of a row, or why it makes none."""
        settings = self.config.select
        if self.config.filters.official and (reason := prompt_problem(len(bare_tokens(self.tokenizer, row["prompt"])))):
            return [], reason
        everyone = candidates_of(row, settings.length_penalty)
        distinct = without_duplicates(everyone, settings.duplicates)
        fit = self._fit(distinct)
        if len(fit) < 2:
            return [], "same_text" if len(distinct) < len(everyone) and len(distinct) < 2 else "too_few_candidates"
        return select(fit, settings, 0 if self.config.seed is None else derive_seed(self.config.seed, row["id"]))

    def _fit(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates that selection may take; what is wrong with the others is counted."""
        settings = self.config.filters
        if settings.applies_to != "candidates":
            return list(candidates)
        problems = [text_problem(one.text, settings, self.special_tokens) for one in candidates]
        self.removed.update(problem for problem in problems if problem is not None)
        return [one for one, problem in zip(candidates, problems, strict=True) if problem is None]

    def _problem(self, row: Mapping[str, Any], made: PairOf) -> str | None:
        config = self.config
        limits = config.max_response_tokens, config.drop_truncated, config.drop_urls
        return pair_problem(row, made, *limits, config.filters, self.special_tokens)


def _special_tokens(tokenizer: Any) -> list[str]:
    added = [str(one) for one in tokenizer.added_tokens_decoder.values()]
    return list(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def pair_row(row: Mapping[str, Any], pair: PairOf, suffix: str = "") -> dict[str, Any]:
    """A pair as `pairs.jsonl` has it; `suffix` tells a prompt's pairs apart."""
    made: dict[str, Any] = {"id": f"{row['id']}{suffix}", "prompt": user_message(row["prompt"])}
    if "prompt_token_ids" in row:
        made["prompt_token_ids"] = row["prompt_token_ids"]
    for role, one in zip(("chosen", "rejected"), pair, strict=True):
        response = row["responses"][one.index]
        made[role] = [{"role": "assistant", "content": response["text"]}]
        made[f"{role}_score"] = one.score
        made[f"{role}_win_rate"] = one.win_rate
        made[f"{role}_tokens"] = response["tokens"]
        if "token_ids" in response:
            made[f"{role}_token_ids"] = response["token_ids"]
        made[f"{role}_finish_reason"] = response["finish_reason"]
    return made
