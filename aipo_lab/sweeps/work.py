"""What the stages of a sweep have to compute: tokens read, written, trained on, scored and ranked, and judges' calls.

Twice: what is expected, with mean lengths and yields, and the most that the recipe's caps allow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aipo_lab.benchmarks.catalogue import needs_judge, official_entry
from aipo_lab.judging.calls import CHARACTERS_PER_TOKEN
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.ranking.ranker import JudgeQuestions
from aipo_lab.stages.definition import StageNode
from aipo_lab.stages.rank import RankConfig
from aipo_lab.sweeps.throughputs import Throughputs

Lengths = Callable[[str, StageNode], float | None]
"""The mean tokens measured of what a stage writes, or None."""


@dataclass(frozen=True)
class PairCount:
    """Given pairs of one training: how many, and the mean tokens of a prompt and a response (None: not known)."""

    pairs: float
    prompt_tokens: float | None = None
    response_tokens: float | None = None


Given = Callable[[StageNode, Recipe], PairCount | None]
"""The given pairs that a stage trains on or scores; None where they are generated."""


@dataclass(frozen=True)
class Work:
    """What one stage run computes: tokens by kind, `items` (prompts, responses, pairs or turns) and judges' `calls`.

    `encoded` are those that the sentence encoder of the pair analysis reads.
    """

    read: float = 0.0
    written: float = 0.0
    trained: float = 0.0
    scored: float = 0.0
    ranked: float = 0.0
    encoded: float = 0.0
    items: float = 0.0
    calls: float = 0.0

    @property
    def tokens(self) -> float:
        """The tokens that a person would name: those written, trained on, scored, ranked or compared."""
        return self.written + self.trained + self.scored + self.ranked + self.encoded


@dataclass(frozen=True)
class WorkEstimator:
    """Estimates the work of a recipe's stages, expected or (`most`) with every cap reached."""

    table: Throughputs
    most: bool = False
    measured: Lengths = lambda _, __: None
    given: Given = lambda _, __: None

    def work(self, node: StageNode, recipe: Recipe) -> Work:
        """The work of one run of the node's stage."""
        estimate = getattr(self, f"_{node.stage}", None)
        return Work() if estimate is None else estimate(node, recipe)

    def _instruct(self, _: StageNode, recipe: Recipe) -> Work:
        settings = recipe.instruct
        if settings.source == "pool":
            return Work(items=settings.n_prompts)
        kept = 1.0 if self.most else self.table.yields["instruct"].value
        completions = settings.n_prompts / settings.n_per_completion / kept
        cap = settings.sampling.max_new_tokens
        each = cap if self.most else min(cap, settings.n_per_completion * self.table.lengths["instruction"].value)
        shown = settings.n_examples * self.table.lengths["prompt"].value
        return Work(read=completions * shown, written=completions * each, items=settings.n_prompts)

    def _respond(self, node: StageNode, recipe: Recipe) -> Work:
        n = recipe.instruct.n_prompts * recipe.respond.n_candidates
        read = recipe.instruct.n_prompts * self._prompt(recipe, recipe.respond.max_prompt_tokens)
        return Work(read=read, written=n * self._response(node, recipe), items=n)

    def _rank(self, node: StageNode, recipe: Recipe) -> Work:
        n_prompts, n = recipe.instruct.n_prompts, recipe.respond.n_candidates
        ranker = self.table.rankers.get(recipe.rank.ranker)
        if questions := RankConfig.model_validate(node.request.config).settings.questions(n):
            return self._asked(node, recipe, questions)
        if ranker is None:
            return Work(items=n_prompts)
        pair = self._prompt(recipe, recipe.respond.max_prompt_tokens) + 2 * self._response(node, recipe)
        return Work(ranked=n_prompts * n * (n - 1) * min(pair, ranker.most_tokens), items=n_prompts)

    def _asked(self, node: StageNode, recipe: Recipe, questions: Sequence[JudgeQuestions]) -> Work:
        """What a ranker asks in words: replies of the policy's engine, or calls of a judge."""
        n_prompts = recipe.instruct.n_prompts
        if not recipe.rank.asks_policy():
            return Work(items=n_prompts, calls=n_prompts * sum(one.n for one in questions))
        prompt = self._prompt(recipe, recipe.respond.max_prompt_tokens)
        response = self._response(node, recipe)
        read = sum(
            one.n * (one.chars / CHARACTERS_PER_TOKEN + prompt + one.candidates * response + one.tokens)
            for one in questions
        )
        written = sum(one.n * one.most_reply_tokens for one in questions)
        return Work(read=n_prompts * read, written=n_prompts * written, items=n_prompts)

    def _reference(self, node: StageNode, recipe: Recipe) -> Work:
        pairs, prompt, response = self._pairs(node, recipe)
        return Work(scored=pairs * (prompt + 2 * response), items=pairs)

    def _analyse(self, node: StageNode, recipe: Recipe) -> Work:
        pairs, _, response = self._pairs(node, recipe)
        if node.request.config["similarity"] != "sentence":
            return Work(items=pairs)
        return Work(encoded=pairs * 2 * min(response, self.table.sentences.most_tokens), items=pairs)

    def _train_reward(self, node: StageNode, recipe: Recipe) -> Work:
        settings, n = node.request.config, recipe.respond.n_candidates
        if settings.get("pairs") is None:
            there_are = recipe.instruct.n_prompts * n * (n - 1) / 2 * (1 - settings["held_out_share"])
        else:
            there_are = self.table.counts["given_pairs"].value
        pairs = min(there_are, settings.get("n_pairs") or there_are)
        conversation = self._prompt(recipe, recipe.respond.max_prompt_tokens) + self._response(node, recipe)
        return Work(trained=settings["epochs"] * pairs * 2 * min(conversation, settings["max_tokens"]), items=pairs)

    def _train(self, node: StageNode, recipe: Recipe) -> Work:
        pairs, prompt, response = self._pairs(node, recipe)
        return Work(trained=recipe.train.epochs * pairs * (prompt + 2 * response), items=pairs)

    def _answer(self, node: StageNode, _: Recipe) -> Work:
        n, sampling = node.request.config["n_prompts"], node.request.config["sampling"]
        return self._answers(node, n, sampling["max_new_tokens"], "response")

    def _answer_official(self, node: StageNode, recipe: Recipe) -> Work:
        name = node.request.config["benchmark"]
        cap = recipe.benchmarks.official()[name].max_new_tokens
        return self._answers(node, n_turns(node.request.config), cap, name)

    def _judge_official(self, node: StageNode, _: Recipe) -> Work:
        if not needs_judge(node.request.config["benchmark"]):
            return Work()
        judging = self.table.judging.get(node.request.config["benchmark"])
        calls = judging.calls if judging else official_entry(node.request.config["benchmark"]).verdicts_per_question
        return Work(calls=n_turns(node.request.config) * calls)

    def _answers(self, node: StageNode, n: int, cap: int, length: str) -> Work:
        figure = self.table.lengths.get(length, self.table.lengths["response"]).value
        each = cap if self.most else min(cap, self.measured(node.stage, node) or figure)
        return Work(read=n * self.table.lengths["question"].value, written=n * each, items=n)

    def _pairs(self, node: StageNode, recipe: Recipe) -> tuple[float, float, float]:
        """Pairs of a training, and tokens of a prompt, which is computed once a pair, and of a response."""
        caps = recipe.train.max_prompt_tokens, recipe.train.max_response_tokens
        given = self.given(node, recipe)
        if given is not None:
            lengths = self.table.lengths
            means = given.prompt_tokens or lengths["prompt"].value, given.response_tokens or lengths["response"].value
            prompt, response = caps if self.most else map(min, means, caps)
            return given.pairs, prompt, response
        kept = 1.0 if self.most else self.table.yields["pairs"].value
        response = min(self._response(node, recipe), caps[1])
        prompt = self._prompt(recipe, caps[0])
        return recipe.instruct.n_prompts * kept, prompt, response

    def _prompt(self, recipe: Recipe, cap: int) -> float:
        if self.most:
            return cap
        kind = "prompt" if recipe.instruct.source == "pool" else "instruction"
        return min(cap, self.table.lengths[kind].value)

    def _response(self, node: StageNode, recipe: Recipe) -> float:
        cap = recipe.respond.sampling.max_new_tokens
        return cap if self.most else min(cap, self.measured("respond", node) or self.table.lengths["response"].value)


def n_turns(config: Mapping[str, Any]) -> int:
    """Turns that an official benchmark's stage answers or judges."""
    entry = official_entry(config["benchmark"])
    return min(config["limit"] or entry.n_questions, entry.n_questions) * entry.n_turns
