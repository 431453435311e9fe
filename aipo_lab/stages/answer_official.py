"""Stage `answer_official`: a policy's answers to an official benchmark's questions, turn by turn.

Output `answers.jsonl` (see `aipo_lab.benchmarks.answers`) and the official answer file below `official/`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from aipo_lab.benchmarks.answers import Turn, read_answers, write_turns
from aipo_lab.benchmarks.official import Question
from aipo_lab.core.config import StrictModel
from aipo_lab.core.seeds import derive_seed
from aipo_lab.generation.engine import Completion, EngineChoice, SamplingConfig
from aipo_lab.generation.sharded import generate_in_shards
from aipo_lab.models.chat import Message, encode_prompt
from aipo_lab.models.policy import Policy
from aipo_lab.models.template import ChatSettings
from aipo_lab.stages.definition import StageContext, stage
from aipo_lab.stages.kept_back import load_benchmark
from aipo_lab.stages.sampling import input_engine, input_policy, other_ends, sampling_notes


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
    engine: EngineChoice = Field(description="generation engine")
    chat: ChatSettings = Field(default_factory=ChatSettings, description="how conversations are rendered")


@stage("answer_official", version=3, config=AnswerOfficialConfig)
def answer_official(context: StageContext[AnswerOfficialConfig]) -> Mapping[str, Any]:
    """Write the answers; the summary counts turns that were cut off or whose prompt left the model no room.

    The official file names the model after the policy's key, as what a person calls it changes no answer.
    """
    benchmark = load_benchmark(context)
    model = f"policy-{context.inputs['policy'].key[:12]}"
    conversations = _Conversations(context, benchmark.questions)
    turns = conversations.hold()
    write_turns(context.folder, benchmark.questions, turns)
    benchmark.write_answers(context.folder / "official", model, read_answers(context.folder))
    said = [turn for conversation in turns for turn in conversation]
    shown = [turn.prompt_token_ids or [] for turn in said]
    notes = sampling_notes(conversations.policy, shown, context.config.max_new_tokens)
    return {
        "model": model,
        "answers": len(turns),
        "tokens": sum(turn.tokens or 0 for turn in said),
        "truncated": sum(turn.finish_reason == "length" for turn in said),
        "prompts_too_long": notes.pop("prompts_without_room", 0),
        **notes,
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
        self.also_ends = other_ends(self.policy, context.config.chat)

    def hold(self) -> list[list[Turn]]:
        """Every question's turns."""
        for turn in range(max(len(question.turns) for question in self.questions)):
            prompts = {
                place: encode_prompt(self.policy.tokenizer, self._messages(place, turn), self.context.config.chat)
                for place, question in enumerate(self.questions)
                if turn < len(question.turns)
            }
            for temperature, places in sorted(self._groups(prompts).items()):
                self._say(turn, temperature, {place: prompts[place] for place in places})
        return self.said

    def _messages(self, place: int, turn: int) -> list[Message]:
        messages = []
        for prompt, reply in zip(self.questions[place].turns, self.said[place], strict=False):
            messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply.text}]
        return [*messages, {"role": "user", "content": self.questions[place].turns[turn]}]

    def _groups(self, places: Iterable[int]) -> dict[float, list[int]]:
        """Places by temperature: what is sampled alike goes together."""
        groups = defaultdict(list)
        for place in places:
            wanted = self.context.config.temperature
            temperature = self.questions[place].temperature if wanted is None else wanted
            assert temperature is not None, "a benchmark without a temperature of its own has one in its settings"
            groups[temperature].append(place)
        return groups

    def _say(self, turn: int, temperature: float, prompts: Mapping[int, list[int]]) -> None:
        """Let the policy speak one turn in some conversations, whose prompts are given by place."""
        made = self._sample(f"turn{turn}-temperature{temperature:g}", temperature, list(prompts.values()))
        self.n_said += len(prompts)
        for (place, prompt), (one,) in zip(prompts.items(), made, strict=True):
            self.said[place].append(Turn(one.text, one.n_tokens, one.finish_reason, prompt, one.token_ids))

    def _sample(self, name: str, temperature: float, prompts: list[list[int]]) -> list[list[Completion]]:
        config = self.context.config
        parts = self.context.parts / name
        parts.mkdir(parents=True, exist_ok=True)
        before = self.n_said

        def progress(done: int, _: int, __: str) -> None:
            self.context.progress(before + done, self.n_turns, "turns")

        return generate_in_shards(
            input_engine(self.context),
            prompts,
            1,
            SamplingConfig(
                temperature=temperature,
                top_p=config.top_p,
                top_k=config.top_k,
                max_new_tokens=config.max_new_tokens,
            ),
            derive_seed(config.seed, name),
            config.engine.shard_prompts,
            parts,
            progress,
            self.also_ends,
        )
