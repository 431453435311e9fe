"""The stage `instruct` where the policy writes the prompts: rounds of completions until P are kept, or it is clear that
P will not be reached.

The first round is a small one: what it yields says how many completions the next ones need, and whether they suffice.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.parts import part_rows
from aipo_lab.core.seeds import derive_seed
from aipo_lab.generation.engine import Completion
from aipo_lab.generation.near_duplicates import NearDuplicates
from aipo_lab.generation.official_instruct import OfficialFilter, official_prompt, official_stop_strings
from aipo_lab.generation.self_instruct import InstructionFilter, few_shot_prompt, split_instructions, stop_strings
from aipo_lab.models.chat import bare_tokens, encode_text_prompt
from aipo_lab.models.policy import Policy
from aipo_lab.prompts.same import PromptSet
from aipo_lab.stages.definition import StageContext
from aipo_lab.stages.kept_back import never_prompted
from aipo_lab.stages.sampling import input_engine, input_policy, sampling_notes
from aipo_lab.worlds.world import World

if TYPE_CHECKING:
    from aipo_lab.stages.instruct import InstructConfig

FIRST_ROUND_COMPLETIONS = 256
"""Most completions of the first round."""
ROUND_COMPLETIONS_PER_PROMPT = 4
"""Most completions of any other round, for each prompt wanted."""
OFFICIAL_SHORTEST_TOKENS = 3
"""In the policy's tokens: what the official pipeline cut to less is left out where responses are generated."""

_LOG = logging.getLogger(__name__)


class _Harvest:
    """Reads instructions off completions, keeps those that pass all filters, and counts why others were dropped."""

    def __init__(self, context: StageContext[InstructConfig], world: World | None, pool: list[str]) -> None:
        config = context.config
        self.config, self.world = config, world
        self.tokenizer = input_policy(context).tokenizer
        self.never = never_prompted(context.inputs["pool"].path) if "pool" in context.inputs else PromptSet()
        threshold = config.near_duplicates
        self.near = None if threshold is None else NearDuplicates(threshold, pool)
        self.official = OfficialFilter(_cl100k_tokens, config.min_tokens, config.max_tokens)
        self.clean = InstructionFilter(
            self._policy_tokens,
            config.min_tokens,
            config.max_tokens,
            world.is_instruction if world else None,
            known=pool,
            held_out=world.benchmark_prompts() if world else (),
        )
        self.counts = self.official.counts if config.style == "official" else self.clean.counts

    def read(self, completion: str) -> list[str]:
        """The instructions kept of one completion."""
        found = self._read_official(completion) if self.config.style == "official" else self._read_clean(completion)
        if self.near is None:
            return found
        return [text for text in found if self._is_new(text, self.near)]

    def _read_clean(self, completion: str) -> list[str]:
        found = split_instructions(completion, self.config.n_per_completion)
        if not found:
            self.counts["empty"] += 1
        asked = [text for text in found if text in self.never]
        if asked:
            self.counts["benchmark_prompt"] += len(asked)
        return [text for text in found if text not in asked and self.clean.keep(text)]

    def _read_official(self, completion: str) -> list[str]:
        """After the official filters, what no stage of ours may ask or could judge is left out as well."""
        kept = []
        for text in self.official.read(completion):
            reason = self._reason_beyond_the_official(text)
            if reason is None:
                kept.append(text)
            else:
                self._recount(reason)
        return kept

    def _reason_beyond_the_official(self, text: str) -> str | None:
        if self._policy_tokens(text) < OFFICIAL_SHORTEST_TOKENS:
            return "too_short_when_cut"
        if text in self.never or (self.world is not None and text in self.clean.held_out):
            return "benchmark_prompt"
        return "malformed" if self.world is not None and not self.world.is_instruction(text) else None

    def _is_new(self, text: str, near: NearDuplicates) -> bool:
        if near.has(text):
            self._recount("near_duplicate")
            return False
        near.add(text)
        return True

    def _recount(self, reason: str) -> None:
        """One that had been counted as kept is dropped after all."""
        self.counts["kept" if self.counts["kept"] else "kept_cut"] -= 1
        self.counts[reason] += 1

    def _policy_tokens(self, text: str) -> int:
        return len(bare_tokens(self.tokenizer, text))


def _cl100k_tokens(text: str) -> int:
    from aipo_lab.benchmarks.arena_hard.tokens import count_tokens

    return count_tokens([text])[0]


def self_instruct(
    context: StageContext[InstructConfig], world: World | None, pool: list[str]
) -> tuple[list[str], Counter[str], dict[str, Any]]:
    """The instructions, the counts of what was generated, and the summary's notes about sampling and a shortfall.

    Raises `StageFailed` if fewer than `n_prompts` are to be expected or were written and `shortfall` is `fail`.
    """
    config = context.config
    policy = input_policy(context)
    harvest = _Harvest(context, world, pool)
    prompts: list[str] = []
    shown: list[list[int]] = []
    for number in range(config.max_rounds):
        missing = config.n_prompts - len(prompts)
        if missing <= 0:
            break
        examples = _few_shot_prompts(config, policy, pool, number, _n_completions(config, number, missing, harvest))
        texts = _round_of_completions(context, examples, number)
        shown += examples
        prompts += [instruction for text in texts for instruction in harvest.read(text)]
        context.progress(min(len(prompts), config.n_prompts), config.n_prompts, "prompts")
        _look_ahead(config, number + 1, len(prompts), len(shown), harvest.counts)
    notes = sampling_notes(policy, shown, config.sampling.max_new_tokens) | {"completions": len(shown)}
    if prompts and len(prompts) < config.n_prompts:
        told = _shortfall(config, f"only {len(prompts)} were kept of {len(shown)} completions", harvest.counts)
        if config.shortfall == "fail":
            raise StageFailed(told)
        notes |= {"shortfall": config.n_prompts - len(prompts), "warnings": [told]}
    return prompts[: config.n_prompts], harvest.counts, notes


def _n_completions(config: InstructConfig, number: int, missing: int, harvest: _Harvest) -> int:
    """Completions of a round, by the share of instructions kept so far."""
    kept = harvest.counts["kept"] + harvest.counts["kept_cut"]
    share_kept = max(kept, 1) / max(harvest.counts.total(), 1) if number else 1.0
    wanted = round(1.1 * missing / share_kept / config.n_per_completion) + 1
    most = ROUND_COMPLETIONS_PER_PROMPT * config.n_prompts
    return min(wanted, most if number else min(most, FIRST_ROUND_COMPLETIONS))


def _look_ahead(config: InstructConfig, rounds: int, kept: int, completions: int, counts: Counter[str]) -> None:
    """Say at once, or fail (`shortfall`), if the rounds to come cannot be expected to bring what is missing."""
    most = (config.max_rounds - rounds) * ROUND_COMPLETIONS_PER_PROMPT * config.n_prompts
    expected = kept + kept / max(completions, 1) * most
    if not most or expected >= config.n_prompts:
        return
    told = _shortfall(
        config, f"{kept} were kept of {completions} completions, so at most {expected:.0f} are to be expected", counts
    )
    if config.shortfall == "fail":
        raise StageFailed(told)
    _LOG.warning(told)


def _shortfall(config: InstructConfig, what: str, counts: Counter[str]) -> str:
    dropped = Counter({reason: count for reason, count in counts.items() if not reason.startswith("kept") and count})
    return (
        f"{config.n_prompts} prompts are wanted (instruct.n_prompts), but {what} in instruct.max_rounds "
        f"{config.max_rounds}; dropped: {reasons(dropped)}. {_advice(dropped)}"
    )


_ADVICE = {
    "too_long": "raise instruct.max_tokens",
    "too_short": "lower instruct.min_tokens",
    "duplicate": "raise instruct.sampling.temperature",
    "near_duplicate": "raise instruct.near_duplicates or instruct.sampling.temperature",
    "empty": "raise instruct.sampling.temperature",
}


def _advice(dropped: Counter[str]) -> str:
    most = next((_ADVICE[reason] for reason, _ in dropped.most_common(1) if reason in _ADVICE), None)
    general = "lower instruct.n_prompts, or raise instruct.max_rounds or instruct.n_per_completion"
    return f"Either {most}; or {general}" if most else general.capitalize()


def reasons(counts: Counter[str]) -> str:
    """What was generated, by what became of it."""
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common()) or "none generated"


def _few_shot_prompts(config: InstructConfig, policy: Policy, pool: list[str], number: int, n: int) -> list[list[int]]:
    """One round's prompts in tokens; raises `StageFailed` if the model has no room after any of them."""
    draw = random.Random(derive_seed(config.seed, "examples", number))
    write = official_prompt if config.style == "official" else few_shot_prompt
    texts = [write(draw.sample(pool, min(config.n_examples, len(pool)))) for _ in range(n)]
    prompts = [encode_text_prompt(policy.tokenizer, text) for text in texts]
    if not any(policy.room_tokens(len(prompt)) for prompt in prompts):
        raise StageFailed(
            f"the shortest few-shot prompt of {config.n_examples} examples has {min(map(len, prompts))} tokens, which "
            f"fill the model's {policy.n_positions} positions; lower instruct.n_examples"
        )
    return prompts


def _round_of_completions(
    context: StageContext[InstructConfig], prompts: Sequence[Sequence[int]], number: int
) -> list[str]:
    """One round's completions, from the part on disk if an earlier attempt committed it whole."""
    config = context.config
    write_stops = official_stop_strings if config.style == "official" else stop_strings
    stops = write_stops(config.n_examples, config.n_per_completion)
    seed = derive_seed(config.seed, "sampling", number)

    def make() -> Iterator[dict[str, Any]]:
        for row in input_engine(context).generate(prompts, 1, config.sampling, seed, stop=stops):
            yield vars(row[0])

    made_from = {
        "prompts": [list(prompt) for prompt in prompts],
        "sampling": config.sampling.model_dump(mode="json"),
        "seed": seed,
        "stop": list(stops),
    }
    rows = part_rows(context.parts / f"round-{number:03d}.jsonl", made_from, make)
    return [Completion(**row).text for row in rows]
