"""Stage `answer_official`: a policy's answers to an official benchmark's questions, turn by turn.

Output `answers.jsonl` (see `aipo_lab.benchmarks.answers`) and the official answer file below `official/`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.answers import Turn, read_answers, write_turns
from aipo_lab.benchmarks.catalogue import load_official
from aipo_lab.benchmarks.official import Question
from aipo_lab.core.config import StrictModel
from aipo_lab.core.seeds import derive_seed
from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.generation.sharded import EngineConfig, generate_in_shards
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.chat import Message, encode_prompt
from aipo_lab.models.policy import Policy
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.sampling import input_policy

CAP_STEP_TOKENS = 64
"""Caps below the wanted one are rounded down to multiples of this, so that prompts of similar length share a batch."""


class OfficialQuestions(StrictModel):
    """Which questions of which benchmark."""

    benchmark: str = Field(description="official benchmark")
    limit: int | None = Field(description="questions asked (none: all)")
    files: str = Field(description="hash of the benchmark's data files")


class AnswerOfficialConfig(OfficialQuestions):
    """All that determines the answers besides the policy."""

    temperature: float | None = Field(description="of answers; none: each question's own")
    top_p: float = Field(description="share of probability mass sampled from")
    top_k: int = Field(description="number of likeliest tokens sampled from (0 = all)")
    max_new_tokens: int = Field(description="cap on a turn's length in tokens")
    seed: int = Field(description="seed of sampling, the same at every iteration")
    engine: EngineConfig = Field(description="generation engine")


@stage("answer_official", version=2, config=AnswerOfficialConfig)
def answer_official(context: StageContext[AnswerOfficialConfig]) -> Mapping[str, Any]:
    """Write the answers; the summary counts turns that were cut off or whose prompt left the model no room.

    The official file names the model after the policy's key, as what a person calls it changes no answer.
    """
    benchmark = load_official(context.config.benchmark, context.config.limit)
    model = f"policy-{context.inputs['policy'].key[:12]}"
    conversations = _Conversations(context, benchmark.questions)
    turns = conversations.hold()
    write_turns(context.folder, benchmark.questions, turns)
    benchmark.write_answers(context.folder / "official", model, read_answers(context.folder))
    said = [turn for conversation in turns for turn in conversation]
    return {
        "model": model,
        "answers": len(turns),
        "tokens": sum(turn.tokens or 0 for turn in said),
        "truncated": sum(turn.finish_reason == "length" for turn in said),
        "prompts_too_long": conversations.n_too_long,
    }


class _Conversations:
    """All questions' conversations with the policy, held side by side."""

    def __init__(self, context: StageContext[AnswerOfficialConfig], questions: Sequence[Question]) -> None:
        self.context = context
        self.questions = questions
        self.policy: Policy = input_policy(context)
        self.said: list[list[Turn]] = [[] for _ in questions]
        self.n_turns = sum(len(question.turns) for question in questions)
        self.n_said = 0
        self.n_too_long = 0

    def hold(self) -> list[list[Turn]]:
        """Every question's turns."""
        for turn in range(max(len(question.turns) for question in self.questions)):
            prompts = {
                place: encode_prompt(self.policy.tokenizer, self._messages(place, turn))
                for place, question in enumerate(self.questions)
                if turn < len(question.turns)
            }
            for (temperature, cap), places in sorted(self._groups(prompts).items()):
                self._say(turn, temperature, cap, {place: prompts[place] for place in places})
        return self.said

    def _messages(self, place: int, turn: int) -> list[Message]:
        messages = []
        for prompt, reply in zip(self.questions[place].turns, self.said[place], strict=False):
            messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply.text}]
        return [*messages, {"role": "user", "content": self.questions[place].turns[turn]}]

    def _groups(self, prompts: Mapping[int, Sequence[int]]) -> dict[tuple[float, int], list[int]]:
        """Places by temperature and cap: what is sampled alike goes together."""
        groups = defaultdict(list)
        for place, prompt in prompts.items():
            wanted = self.context.config.temperature
            temperature = self.questions[place].temperature if wanted is None else wanted
            assert temperature is not None, "a benchmark without a temperature of its own has one in its settings"
            groups[temperature, self._cap(len(prompt))].append(place)
        return groups

    def _cap(self, prompt_tokens: int) -> int:
        """The most tokens an answer may have: the wanted number, or what the model's positions leave."""
        wanted = self.context.config.max_new_tokens
        room = int(getattr(self.policy.model.config, "max_position_embeddings", 1 << 30)) - prompt_tokens
        if room >= wanted:
            return wanted
        return max(room // CAP_STEP_TOKENS * CAP_STEP_TOKENS if room >= CAP_STEP_TOKENS else room, 0)

    def _say(self, turn: int, temperature: float, cap: int, prompts: Mapping[int, list[int]]) -> None:
        """Let the policy speak one turn in some conversations, whose prompts are given by place."""
        if cap == 0:
            self.n_too_long += len(prompts)
            made = [[Completion("", 0, "length")] for _ in prompts]
        else:
            made = self._sample(f"turn{turn}-temperature{temperature:g}-cap{cap}", temperature, cap, prompts)
        self.n_said += len(prompts)
        for place, (one,) in zip(prompts, made, strict=True):
            self.said[place].append(Turn(one.text, one.n_tokens, one.finish_reason))

    def _sample(
        self, name: str, temperature: float, cap: int, prompts: Mapping[int, list[int]]
    ) -> list[list[Completion]]:
        config = self.context.config
        parts = self.context.parts / name
        parts.mkdir(parents=True, exist_ok=True)
        before = self.n_said

        def progress(done: int, _: int, __: str) -> None:
            self.context.progress(before + done, self.n_turns, "turns")

        return generate_in_shards(
            TransformersEngine(self.policy, config.engine.batch_size),
            list(prompts.values()),
            1,
            SamplingConfig(temperature=temperature, top_p=config.top_p, top_k=config.top_k, max_new_tokens=cap),
            derive_seed(config.seed, name),
            config.engine.shard_prompts,
            parts,
            progress,
        )
