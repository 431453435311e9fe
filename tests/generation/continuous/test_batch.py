"""Continuous batching on a random model: what is in the batch, when it came, and lack of memory change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_variants import make_variant

from aipo_lab.core.errors import StageFailed
from aipo_lab.generation.continuous import batch, memory, row_groups, timeline
from aipo_lab.generation.continuous.forward import Forward
from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.policy import Policy, load_policy

PROMPTS = [[1, 4, *range(10, 10 + n), 5] for n in (3, 1, 30, 7, 12, 2, 3)]
SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=24)


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    """A random policy that ends some of its completions early and not others."""
    made = make_policy(seed=1)
    with torch.no_grad():
        made.model.lm_head.weight[made.end_token_id] *= 1.2
    return made


@pytest.fixture(scope="module")
def alone(policy: Policy) -> list[list[Completion]]:
    """What each completion is in a batch of its own."""
    return TransformersEngine(policy, 1).generate(PROMPTS, 3, SAMPLING, seed=7)


def test_the_completions_end_at_different_times(alone: list[list[Completion]]) -> None:
    assert len({one.n_tokens for row in alone for one in row}) > 4
    assert Counter(one.finish_reason for row in alone for one in row).keys() == {"stop", "length"}


@pytest.mark.parametrize("batch_size", [2, 4, 5, 64, "auto"])
def test_a_batch_of_any_size_samples_the_same(policy: Policy, alone: list[list[Completion]], batch_size: Any) -> None:
    assert TransformersEngine(policy, batch_size).generate(PROMPTS, 3, SAMPLING, seed=7) == alone


def test_a_completion_depends_on_its_place_and_not_on_the_other_prompts(
    policy: Policy, alone: list[list[Completion]]
) -> None:
    others = [PROMPTS[0], *([[1, 4, 20, 5]] * 5)]
    assert TransformersEngine(policy, 8).generate(others, 2, SAMPLING, seed=7)[0] == alone[0][:2]


def test_rows_are_moved_back_when_the_timeline_is_full(
    policy: Policy, alone: list[list[Completion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("batch", "timeline"):
        monkeypatch.setattr(f"aipo_lab.generation.continuous.{module}.SLACK_COLUMNS", 1)
    assert TransformersEngine(policy, 4).generate(PROMPTS, 3, SAMPLING, seed=7) == alone


def test_what_lay_in_memory_before_is_not_read(
    policy: Policy, alone: list[list[Completion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = torch.Tensor.new_empty

    def no_numbers(self: torch.Tensor, *shape: int, **options: Any) -> torch.Tensor:
        return empty(self, *shape, **options).fill_(float("nan"))

    monkeypatch.setattr(torch.Tensor, "new_empty", no_numbers)
    assert TransformersEngine(policy, 8).generate(PROMPTS, 3, SAMPLING, seed=7) == alone


class CountingForward(Forward):
    """The real forward passes, counted; with `rows` of memory: a larger batch does not fit."""

    rows = 1 << 30
    tokens: list[int]
    batches: list[int]

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        type(self).tokens, type(self).batches = [], []

    def whole(self, sequences: Sequence[Sequence[int]]) -> Any:
        self._check(len(sequences))
        self.tokens.append(sum(map(len, sequences)))
        return super().whole(sequences)

    def next(self, tokens: Sequence[int], timeline: Any) -> Any:
        self._check(len(tokens))
        self.batches.append(len(tokens))
        return super().next(tokens, timeline)

    def _check(self, rows: int) -> None:
        if rows > self.rows:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[CountingForward]:
    monkeypatch.setattr(batch, "Forward", CountingForward)
    return CountingForward


def test_a_prompt_is_computed_once_for_all_its_samples(policy: Policy, counted: type[CountingForward]) -> None:
    for batch_size in (2, 8, 64):
        TransformersEngine(policy, batch_size).generate(PROMPTS, 5, SAMPLING, seed=7)
        assert sum(counted.tokens) == sum(map(len, PROMPTS))


def test_ended_rows_leave_the_batch_and_new_ones_take_their_place(
    policy: Policy, counted: type[CountingForward]
) -> None:
    made = TransformersEngine(policy, 4).generate(PROMPTS, 8, SAMPLING, seed=7)
    after_the_first = sum(one.n_tokens - 1 for row in made for one in row)
    assert sum(counted.batches) == after_the_first  # no row is computed after its end
    busy = counted.batches[: -SAMPLING.max_new_tokens]
    assert sum(busy) > 0.9 * 4 * len(busy)


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_lack_of_memory_halves_the_batch_and_goes_on(
    policy: Policy,
    alone: list[list[Completion]],
    counted: type[CountingForward],
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counted, "rows", rows)
    assert TransformersEngine(policy, 16).generate(PROMPTS, 3, SAMPLING, seed=7) == alone
    assert max(counted.batches) <= rows


def test_memory_that_is_too_small_for_one_row_is_an_error_that_says_so(
    policy: Policy, counted: type[CountingForward], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted, "rows", 0)
    with pytest.raises(StageFailed, match=r"too small for one sequence of 57 tokens.*lower max_new_tokens"):
        TransformersEngine(policy, 16).generate(PROMPTS, 3, SAMPLING, seed=7)


def test_other_errors_are_not_taken_for_lack_of_memory(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Forward, "next", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        TransformersEngine(policy, 16).generate(PROMPTS, 3, SAMPLING, seed=7)


def test_the_batch_follows_from_the_models_sizes_and_what_memory_is_left(
    policy: Policy, alone: list[list[Completion]], counted: type[CountingForward], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = max(map(len, PROMPTS)) + SAMPLING.max_new_tokens + batch.SLACK_COLUMNS
    keys_and_values = 2 * 2 * 2 * 8 * 4  # layers, both, heads, size of a head, bytes
    row = keys_and_values * columns + memory.LOGIT_COPIES * 4 * policy.vocabulary_size
    monkeypatch.setattr(batch, "available_bytes", lambda _: int(5.5 * row))
    assert TransformersEngine(policy).generate(PROMPTS, 3, SAMPLING, seed=7) == alone
    assert max(counted.batches) == 5


def test_a_sliding_window_counts_tokens_and_not_columns(tmp_path: Any) -> None:
    folder = make_variant(tmp_path / "model", architecture="mistral", sliding_window=8, writes=())
    policy = load_policy(folder, "cpu", "float32")
    alone = TransformersEngine(policy, 1).generate(PROMPTS, 2, SAMPLING, seed=3)
    assert TransformersEngine(policy, 6).generate(PROMPTS, 2, SAMPLING, seed=3) == alone


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("columns", [0, 20])
def test_rows_computed_by_groups_sample_the_same(
    tmp_path: Any, architecture: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = {"sliding_window": 8} if architecture == "mistral" else {}
    policy = load_policy(make_variant(tmp_path / "model", architecture=architecture, **window), "cpu", "float32")
    alone = TransformersEngine(policy, 1).generate(PROMPTS, 3, SAMPLING, seed=7)
    rows_at_once: list[int] = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        rows_at_once.append(key.shape[0])
        return plain(query, key, *rest, **options)

    monkeypatch.setattr(row_groups, "GROUP_COLUMNS", columns)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    assert TransformersEngine(policy, 12).generate(PROMPTS, 3, SAMPLING, seed=7) == alone
    assert 1 < max(rows_at_once) < 12


@given(st.lists(st.integers(0, 900), max_size=30) | st.lists(st.integers(0, 30), max_size=60), st.data())
def test_groups_are_all_rows_in_order_and_stay_together(starts: list[int], data: Any) -> None:
    groups = row_groups.partition(starts)
    assert [slot for first, end, _ in groups for slot in range(first, end)] == list(range(len(starts)))
    for first, end, low in groups:
        assert low == min(starts[first:end])
        assert sum(start - low for start in starts[first:end]) <= row_groups.GROUP_COLUMNS
    ended = data.draw(st.sets(st.sampled_from(range(len(starts))))) if starts else set()
    order = timeline._without(groups, sorted(ended))
    assert sorted(order) == [slot for slot in range(len(starts)) if slot not in ended]
    group_of = [number for number, (first, end, _) in enumerate(groups) for _ in range(first, end)]
    assert [group_of[slot] for slot in order] == sorted(group_of[slot] for slot in order)
    moved = sum(slot != old for slot, old in enumerate(order))
    assert moved <= len(ended) * len(groups)


def test_prompts_of_very_different_lengths_are_not_padded_together(
    policy: Policy, counted: type[CountingForward], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "LITTLE_PREFILL_TOKENS", 0)
    prompts = [[*range(10, 10 + n)] for n in (40, 38, 36, 9, 9, 8)]
    TransformersEngine(policy, 64).generate(prompts, 2, SAMPLING, seed=7)
    assert counted.tokens == [40 + 38 + 36, 9 + 9 + 8]


def test_log_probabilities_are_the_models_own(policy: Policy) -> None:
    sampling = SamplingConfig(temperature=0.5, top_k=20, repetition_penalty=1.3, max_new_tokens=12)
    engine = TransformersEngine(policy, 4)
    made = engine.generate(PROMPTS, 2, sampling, seed=3, logprobs=True)
    for prompt, row in zip(PROMPTS, made, strict=True):
        for one in row:
            ids = torch.tensor([[*prompt, *one.token_ids]])
            with torch.no_grad():
                logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            expected = logits.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(one.logprobs), expected, atol=1e-4, rtol=1e-4)
    plain = engine.generate(PROMPTS, 2, sampling, seed=3)
    assert [one.token_ids for row in plain for one in row] == [one.token_ids for row in made for one in row]
    assert {one.logprobs for row in plain for one in row} == {None}
