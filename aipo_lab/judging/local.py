"""A judge that is a model on this machine: any folder `aipo_lab.models.policy` loads, decoded in batches.

A reply depends on its request alone: each sampled one draws from a generator of its own, seeded by the request's hash
and the attempt, whatever else is in the batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aipo_lab.core.seeds import derive_seed
from aipo_lab.judging.calls import JudgeReply, JudgeRequest, Unanswered
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.judging.store import CallStore
from aipo_lab.judging.stored import Settle, StoredJudge
from aipo_lab.models.chat import encode_prompt
from aipo_lab.models.decoding import only_given_settings
from aipo_lab.models.policy import POLICIES, Policy
from aipo_lab.models.template import ChatSettings, check_has_template

if TYPE_CHECKING:
    from torch import Tensor


LOWEST_LOGPROB = -9999.0
"""OpenAI's value for tokens that are as good as impossible; JSON has no infinity."""


@dataclass
class _Row:
    """One call: its prompt in tokens, its seed, and what the model made of it."""

    call: str
    request: JudgeRequest
    prompt: list[int]
    seed: int
    tokens: list[int] = field(default_factory=list)
    first_token_logprobs: tuple[tuple[str, float], ...] = ()
    is_finite: bool = True


class LocalJudge(StoredJudge[JudgeRequest]):
    """Judges with a model of this machine, greedily where a request's temperature is 0. Costs nothing.

    Log-probabilities are the model's own, whatever the temperature, as OpenAI's are. Processes that ask for the same
    call at the same time both compute it, to the same reply.
    """

    def __init__(self, settings: JudgeSettings, store: CallStore, device: str) -> None:
        self._folder = settings.local_folder()
        check_has_template(self._folder, settings.chat(), "benchmarks.judge.chat_template")
        super().__init__(self._folder.resolve().name, store)
        self._settings = settings
        self._device = device

    def _answer(self, calls: Mapping[str, JudgeRequest], settle: Settle) -> None:
        policy = POLICIES.get(self._folder, self._device, self._settings.dtype)
        by_cap: dict[int, list[_Row]] = defaultdict(list)
        for call, request in calls.items():
            row = self._row(policy, call, request)
            cap = min(request.max_tokens, policy.room_tokens(len(row.prompt)))
            if cap > 0:
                by_cap[cap].append(row)
            else:
                filled = f"the prompt's {len(row.prompt)} tokens fill the model's {policy.n_positions} positions"
                settle(call, Unanswered(filled))
        for cap, rows in by_cap.items():
            rows.sort(key=lambda row: len(row.prompt))
            for start in range(0, len(rows), self._settings.concurrency):
                self._answer_batch(policy, rows[start : start + self._settings.concurrency], cap, settle)

    def _row(self, policy: Policy, call: str, request: JudgeRequest) -> _Row:
        seed = derive_seed(call, self._store.attempt(call))
        return _Row(call, request, _prompt(policy.tokenizer, request, self._settings.chat()), seed)

    def _answer_batch(self, policy: Policy, rows: Sequence[_Row], cap: int, settle: Settle) -> None:
        _generate(policy, rows, cap)
        for row in rows:
            if row.is_finite:
                reply = _reply(policy, row)
                self._store.put(row.call, row.request, reply, 0.0)
                settle(row.call, reply)
            else:
                settle(row.call, Unanswered(f"the model computes NaN in {self._settings.dtype}: try another dtype"))


def _prompt(tokenizer: Any, request: JudgeRequest, chat: ChatSettings) -> list[int]:
    """Token ids of the conversation.

    What a system message says goes into the first user message where the template has no place for one.
    """
    from jinja2 import TemplateError

    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    try:
        return encode_prompt(tokenizer, messages, chat)
    except TemplateError:
        if messages[0]["role"] != "system":
            raise
        system, first, *others = messages
        joined = {**first, "content": f"{system['content']}\n\n{first['content']}"}
        return encode_prompt(tokenizer, [joined, *others], chat)


def _generate(policy: Policy, rows: Sequence[_Row], cap: int) -> None:
    """Fill in the rows' tokens (the end token included) and log-probabilities, decoding all of them together."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    width = max(len(row.prompt) for row in rows)
    ids = [[policy.pad_token_id] * (width - len(row.prompt)) + row.prompt for row in rows]
    mask = [[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows]
    settings = GenerationConfig(
        max_new_tokens=cap,
        do_sample=False,  # the sampler draws
        use_cache=True,
        eos_token_id=sorted(policy.end_token_ids),
        pad_token_id=policy.pad_token_id,
    )
    with torch.inference_mode(), only_given_settings(policy.model):
        sequences = policy.model.generate(
            input_ids=torch.tensor(ids, device=policy.model.device),
            attention_mask=torch.tensor(mask, device=policy.model.device),
            generation_config=settings,
            logits_processor=LogitsProcessorList([_Sampler(policy.tokenizer, rows)]),
        )
    for row, tokens in zip(rows, sequences[:, width:].tolist(), strict=True):
        ends = [index for index, token in enumerate(tokens) if token in policy.end_token_ids]
        row.tokens = tokens[: ends[0] + 1] if ends else tokens


class _Sampler:
    """A logits processor that notes the first token's log-probabilities and draws the next token of sampled rows.

    The draw is Gumbel's: the largest of logit / temperature + Gumbel noise is distributed as their softmax.
    """

    def __init__(self, tokenizer: Any, rows: Sequence[_Row]) -> None:
        import torch

        self.tokenizer = tokenizer
        self.rows = rows
        self.generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        self.is_first = True

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 - transformers passes both
        """Scores of shape (rows, vocabulary) whose largest is the next token."""
        scores = scores.float()
        if self.is_first:
            self._note_first(scores)
            self.is_first = False
        return self._draw(scores)

    def _note_first(self, scores: Tensor) -> None:
        for row, logprobs in zip(self.rows, scores.log_softmax(-1), strict=True):
            row.is_finite = not bool(logprobs.isnan().any())
            top = logprobs.clamp_min(LOWEST_LOGPROB).topk(min(row.request.top_logprobs, len(logprobs)))
            tokens = [self.tokenizer.decode([token]) for token in top.indices.tolist()]
            row.first_token_logprobs = tuple(zip(tokens, top.values.tolist(), strict=True))

    def _draw(self, scores: Tensor) -> Tensor:
        import torch

        drawn = scores.clone()
        for index, (row, generator) in enumerate(zip(self.rows, self.generators, strict=True)):
            if row.request.temperature > 0:
                uniform = torch.rand(scores.shape[1], generator=generator, dtype=torch.float64)
                noise = -(-uniform.clamp_min(1e-300).log()).log()
                drawn[index] = scores[index] / row.request.temperature + noise.to(scores)
        return drawn


def _reply(policy: Policy, row: _Row) -> JudgeReply:
    ended = row.tokens[-1] in policy.end_token_ids
    return JudgeReply(
        text=policy.tokenizer.decode(row.tokens, skip_special_tokens=True),
        finish_reason="stop" if ended else "length",
        prompt_tokens=len(row.prompt),
        completion_tokens=len(row.tokens),
        first_token_logprobs=row.first_token_logprobs,
    )
