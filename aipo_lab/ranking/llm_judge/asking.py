"""Who is asked for a judgment: the policy by its engine, or a judge of `aipo_lab.judging`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aipo_lab.core.progress import Progress
from aipo_lab.core.seeds import derive_seed
from aipo_lab.core.unicode import repaired
from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.judging.calls import Judge, JudgeReply, JudgeRequest, Message, Outcome
from aipo_lab.models.chat import encode_prompt, user_message
from aipo_lab.ranking.llm_judge.settings import LLMJudgeSettings
from aipo_lab.ranking.llm_judge.templates import fill_to_fit
from aipo_lab.ranking.ranker import AskedPolicy


@dataclass(frozen=True)
class Reply:
    """What a judge said, or in `problem` why it said nothing.

    Tokens are there where the policy replied, so that it can be trained on what it said.
    """

    text: str = ""
    problem: str = ""
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Question:
    """A filled template; no `text` where it cannot be made to fit. `is_cut`: whether a response lost its end."""

    text: str | None
    is_cut: bool


class Asked(Protocol):
    """Somebody who replies to questions."""

    name: str

    def question(self, template: str, texts: Mapping[str, str]) -> Question:
        """The template filled with texts, cut where there is no room for all of them."""
        ...

    def ask(self, questions: Sequence[str], samples: int, progress: Progress) -> list[list[Reply]]:
        """`samples` replies to each question. Equal questions get equal replies."""
        ...

    def discard(self, question: str, sample: int, reason: str) -> None:
        """Note that a reply is of no use, so that a later run asks again where that may help."""
        ...


class PolicyAsked:
    """theta_t, by the recipe's engine. A reply depends by its random numbers on the questions asked with it."""

    name = "the policy"

    def __init__(self, asked: AskedPolicy, settings: LLMJudgeSettings, seed: int) -> None:
        self._asked, self._seed = asked, seed
        self._sampling = SamplingConfig(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens)
        self._room = asked.policy.n_positions - min(settings.max_new_tokens, asked.policy.n_positions // 2)

    def question(self, template: str, texts: Mapping[str, str]) -> Question:
        """See `Asked.question`: the prompt must leave room for a reply in the policy's positions."""
        clean = {name: repaired(text) for name, text in texts.items()}
        return Question(*fill_to_fit(template, clean, lambda filled: len(self._tokens(filled)) / self._room))

    def ask(self, questions: Sequence[str], samples: int, progress: Progress) -> list[list[Reply]]:
        """See `Asked.ask`. Questions are sorted, so that the order they come in makes no difference."""
        distinct = sorted(set(questions), key=lambda text: (len(text), text))
        prompts = [self._tokens(text) for text in distinct]
        more: dict[str, Any] = {"also_ends": self._asked.also_ends} if self._asked.also_ends else {}
        seed = derive_seed(self._seed, "judge", *distinct)
        progress(0, len(distinct), "questions")
        made = self._asked.engine.generate(prompts, samples, self._sampling, seed, **more) if prompts else []
        progress(len(distinct), len(distinct), "questions")
        replies = {
            text: [_reply(prompt, one) for one in completions]
            for text, prompt, completions in zip(distinct, prompts, made, strict=True)
        }
        return [replies[text] for text in questions]

    def discard(self, question: str, sample: int, reason: str) -> None:
        """Nothing is stored that would have to be discarded."""

    def _tokens(self, text: str) -> list[int]:
        return encode_prompt(self._asked.policy.tokenizer, user_message(text), self._asked.chat)


def _reply(prompt: Sequence[int], completion: Completion) -> Reply:
    return Reply(repaired(completion.text), "", tuple(prompt), tuple(completion.token_ids), completion.finish_reason)


class JudgeAsked:
    """A judge that is a server or a model folder of its own; its replies are stored, and asked for once."""

    def __init__(self, judge: Judge, settings: LLMJudgeSettings) -> None:
        self._judge, self._settings = judge, settings
        self.name = judge.name

    def question(self, template: str, texts: Mapping[str, str]) -> Question:
        """See `Asked.question`: nobody knows a server's tokens, so characters are counted."""
        most = self._settings.max_chars
        clean = {name: repaired(text) for name, text in texts.items()}
        return Question(*fill_to_fit(template, clean, lambda filled: len(filled) / most))

    def ask(self, questions: Sequence[str], samples: int, progress: Progress) -> list[list[Reply]]:
        """See `Asked.ask`."""
        requests = [self._request(text, sample) for text in questions for sample in range(samples)]
        outcomes = self._judge.ask(requests, progress)
        replies = [_of_outcome(outcome) for outcome in outcomes]
        return [replies[start : start + samples] for start in range(0, len(replies), samples)]

    def discard(self, question: str, sample: int, reason: str) -> None:
        """See `Asked.discard`."""
        self._judge.discard(self._request(question, sample), reason)

    def _request(self, text: str, sample: int) -> JudgeRequest:
        message = (Message("user", text),)
        return JudgeRequest(message, self._settings.max_new_tokens, self._settings.temperature, sample=sample)


def _of_outcome(outcome: Outcome) -> Reply:
    if isinstance(outcome, JudgeReply):
        return Reply(outcome.text, finish_reason=outcome.finish_reason)
    return Reply(problem=outcome.reason)
