"""The `transformers` engine: sampling with `generate`, on any device transformers runs on.

Rows are decoded in segments; between two segments the finished ones leave the batch, so that a few long
completions do not make every other row pay for padding until the cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from aipo_lab.generation.engine import ENGINES, Completion, EngineDefinition, EngineSettings, SamplingConfig
from aipo_lab.models.decoding import only_given_settings
from aipo_lab.models.policy import POLICIES, Policy

if TYPE_CHECKING:
    from torch import Tensor

SEGMENT_TOKENS = 16


class TransformersEngineSettings(EngineSettings):
    """Sampling in the stage's own process."""

    name: Literal["transformers"] = Field("transformers", description="engine: transformers")
    batch_size: int = Field(512, ge=1, description="completions decoded at once")


@dataclass
class _Row:
    """One completion in the making."""

    position: int
    prompt: Sequence[int]
    cap: int
    tokens: list[int] = field(default_factory=list)
    done: Completion | None = None


class TransformersEngine:
    """Samples from a policy in this process."""

    def __init__(self, policy: Policy, batch_size: int) -> None:
        self.policy = policy
        self.batch_size = batch_size
        self.end_token_ids: frozenset[int] = frozenset()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seed: int,
        stop: Sequence[str] = (),
        also_ends: Sequence[int] = (),
        *,
        logprobs: bool = False,
    ) -> list[list[Completion]]:
        """See `Engine.generate`."""
        import torch

        assert not logprobs, "this engine has none yet"
        stop = [*stop, *sampling.stop]
        self.end_token_ids = self.policy.end_token_ids | frozenset(also_ends)
        rows = [_Row(i, prompt, self._cap(prompt, sampling)) for i, prompt in enumerate(prompts) for _ in range(n)]
        for row in rows:
            if row.cap == 0:
                row.done = Completion("", [], "length")
        by_length = sorted((row for row in rows if row.done is None), key=lambda row: len(row.prompt))
        with torch.random.fork_rng(), torch.inference_mode(), only_given_settings(self.policy.model):
            torch.manual_seed(seed)
            for start in range(0, len(by_length), self.batch_size):
                self._complete(by_length[start : start + self.batch_size], sampling, stop)
        completions: list[list[Completion]] = [[] for _ in prompts]
        for row in rows:
            assert row.done is not None
            completions[row.position].append(row.done)
        return completions

    def _cap(self, prompt: Sequence[int], sampling: SamplingConfig) -> int:
        return min(sampling.max_new_tokens, self.policy.room_tokens(len(prompt)))

    def _complete(self, rows: list[_Row], sampling: SamplingConfig, stop: Sequence[str]) -> None:
        """Finish every row of a batch, segment by segment."""
        input_ids, mask = self._pad([row.prompt for row in rows])
        cache = None
        while rows:
            done_tokens = len(rows[0].tokens)
            n_new = min(SEGMENT_TOKENS, min(row.cap for row in rows) - done_tokens)
            output = self.policy.model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=self._generation_config(sampling, n_new),
            )
            new_tokens = output.sequences[:, input_ids.shape[1] :].tolist()
            for row, tokens in zip(rows, new_tokens, strict=True):
                self._extend(row, tokens, stop, at_cap=done_tokens + n_new >= row.cap)
            kept = [index for index, row in enumerate(rows) if row.done is None]
            rows = [rows[index] for index in kept]
            if rows:
                input_ids, mask, cache = _keep(kept, output, mask)

    def _generation_config(self, sampling: SamplingConfig, n_new: int) -> Any:
        from transformers import GenerationConfig

        greedy = sampling.temperature == 0
        return GenerationConfig(
            max_new_tokens=n_new,
            do_sample=not greedy,
            temperature=None if greedy else sampling.temperature,
            top_p=None if greedy else sampling.top_p,
            top_k=None if greedy else sampling.top_k,
            min_p=None if greedy or not sampling.min_p else sampling.min_p,
            repetition_penalty=None if sampling.repetition_penalty == 1 else sampling.repetition_penalty,
            use_cache=True,
            eos_token_id=sorted(self.end_token_ids),
            pad_token_id=self.policy.pad_token_id,
            return_dict_in_generate=True,
        )

    def _extend(self, row: _Row, tokens: list[int], stop: Sequence[str], at_cap: bool) -> None:
        """Add a segment's tokens to a row and decide whether it is finished."""
        ends = [i for i, token in enumerate(tokens) if token in self.end_token_ids]
        row.tokens += tokens[: ends[0]] if ends else tokens
        text = self._decode(row.tokens)
        cuts = [place for string in stop if (place := text.find(string)) >= 0]
        if cuts:
            text = text[: min(cuts)]
            row.done = Completion(text, self._tokens_up_to(row.tokens, text), "stop")
        elif ends:
            row.done = Completion(text, [*row.tokens, tokens[ends[0]]], "stop")
        elif at_cap:
            row.done = Completion(text, row.tokens, "length")

    def _decode(self, tokens: list[int]) -> str:
        text = self.policy.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def _tokens_up_to(self, tokens: list[int], text: str) -> list[int]:
        """The fewest first tokens that say all of `text`, wherever a segment ended."""
        kept = list(tokens)
        while kept and self._decode(kept[:-1]).startswith(text):
            kept.pop()
        return kept

    def _pad(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Left-pad prompts: ids and mask of shape (rows, longest prompt)."""
        import torch

        width = max(map(len, prompts))
        ids = [[self.policy.pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        device = self.policy.model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _keep(kept: list[int], output: Any, mask: Tensor) -> tuple[Tensor, Tensor, Any]:
    """The sequences, mask and key-value cache of the rows `kept` of a batch."""
    import torch

    index = torch.tensor(kept, device=mask.device)
    sequences = output.sequences[index]
    cache = getattr(output, "past_key_values", None)  # none: the next segment computes the sequences again
    if cache is not None and len(kept) < len(mask):
        cache.batch_select_indices(index)
    new = mask.new_ones(len(kept), sequences.shape[1] - mask.shape[1])
    return sequences, torch.cat([mask[index], new], dim=1), cache


def _open(settings: TransformersEngineSettings, folder: Path, device: str) -> TransformersEngine:
    return TransformersEngine(POLICIES.get(folder, device, settings.dtype), settings.batch_size)


ENGINES.add("transformers", EngineDefinition(settings=TransformersEngineSettings, open=_open))
