"""Pairs as tensors: encoding, limits, batching, and rows that equal two separate sequences."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aipo_lab.models.policy import Policy
from aipo_lab.training.attention import GROUP_SCORES, lay_out
from aipo_lab.training.batches import PADDING, Sharing, collate
from aipo_lab.training.logprobs import all_pair_logps, pair_logps
from aipo_lab.training.packing import micro_batches, optimiser_batches
from aipo_lab.training.pairs import EncodedPair, encode_pairs

# prompt, chosen, rejected: equal, very different and minimal lengths
LENGTHS = [(5, 4, 4), (1, 1, 1), (30, 2, 90), (3, 120, 1), (17, 1, 40), (2, 33, 32)]


def random_pair(lengths: tuple[int, int, int], seed: int, vocabulary: int = 60) -> EncodedPair:
    generator = torch.Generator().manual_seed(seed)
    prompt, chosen, rejected = (torch.randint(6, vocabulary, (n,), generator=generator).tolist() for n in lengths)
    return EncodedPair(f"{seed:06d}", prompt, chosen, rejected)


PAIRS = [random_pair(lengths, seed) for seed, lengths in enumerate(LENGTHS)]


def separate_logps(policy: Policy, prompt: list[int], response: list[int]) -> float:
    """Sum of the response's log-probabilities by a plain forward pass over one unpadded sequence."""
    ids = torch.tensor([prompt + response])
    with torch.no_grad():
        logps = policy.model(input_ids=ids).logits.double().log_softmax(-1)
    positions = range(len(prompt) - 1, len(prompt) + len(response) - 1)
    return float(sum(logps[0, position, ids[0, position + 1]] for position in positions))


@pytest.fixture(scope="module")
def expected(policy: Policy) -> torch.Tensor:
    rows = [
        [separate_logps(policy, pair.prompt, response) for response in (pair.chosen, pair.rejected)] for pair in PAIRS
    ]
    return torch.tensor(rows, dtype=torch.float64)


def test_the_expected_log_probabilities_are_far_from_uniform(expected: torch.Tensor, policy: Policy) -> None:
    tokens = torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in PAIRS])
    uniform = -tokens * torch.log(torch.tensor(float(policy.model.config.vocab_size)))
    assert ((expected - uniform).abs() > 0.05 * tokens).float().mean() > 0.7


@pytest.mark.parametrize("one", range(len(PAIRS)))
def test_a_shared_prompt_row_equals_two_separate_sequences(policy: Policy, expected: torch.Tensor, one: int) -> None:
    batch = collate([[PAIRS[one]]], policy.pad_token_id, "cpu")
    with torch.no_grad():
        made = pair_logps(policy.model, batch)
    n_tokens = max(len(PAIRS[one].chosen), len(PAIRS[one].rejected))
    assert torch.allclose(made[0].double(), expected[one], rtol=1e-5, atol=1e-5 * n_tokens**0.5)


@pytest.mark.parametrize("sharing", Sharing)
def test_padding_and_neighbours_of_very_different_length_change_nothing(
    policy: Policy, expected: torch.Tensor, sharing: Sharing
) -> None:
    batch = collate([[pair] for pair in PAIRS], policy.pad_token_id, "cpu", sharing)
    assert len(batch.input_ids) == {Sharing.LAYOUT: 1, Sharing.MASK: len(PAIRS), Sharing.NONE: 2 * len(PAIRS)}[sharing]
    if sharing is Sharing.MASK:
        assert batch.input_ids.shape[1] == max(pair.n_tokens for pair in PAIRS)
    with torch.no_grad():
        made = pair_logps(policy.model, batch)
    assert torch.allclose(made.double(), expected, rtol=1e-5, atol=1e-4)
    per_token = (made.double() - expected).abs() / batch.lengths
    assert per_token.max() < 1e-5


def test_in_double_precision_they_are_equal_to_rounding(make_policy: Any) -> None:
    policy = make_policy(seed=3, dtype="float64")
    expected = [[separate_logps(policy, pair.prompt, one) for one in (pair.chosen, pair.rejected)] for pair in PAIRS]
    with torch.no_grad():
        made = pair_logps(policy.model, collate([[pair] for pair in PAIRS], policy.pad_token_id, "cpu"))
    # logits are taken in float32 on purpose, so rounding is that of float32
    assert torch.allclose(made.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-5)


def test_the_rejected_response_does_not_see_the_chosen_one(policy: Policy) -> None:
    pair = PAIRS[0]
    changed = EncodedPair("x", pair.prompt, [token + 1 for token in pair.chosen], pair.rejected)
    with torch.no_grad():
        made = [pair_logps(policy.model, collate([[one]], policy.pad_token_id, "cpu"))[0] for one in (pair, changed)]
    assert made[0][1] == made[1][1]
    assert made[0][0] != made[1][0]


def test_swapping_the_responses_swaps_their_log_probabilities(policy: Policy, expected: torch.Tensor) -> None:
    swapped = [EncodedPair(pair.id, pair.prompt, pair.rejected, pair.chosen) for pair in PAIRS]
    with torch.no_grad():
        made = pair_logps(policy.model, collate([[pair] for pair in swapped], policy.pad_token_id, "cpu"))
    assert torch.allclose(made.double().flip(1), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("max_tokens", [1, 130, 300, 10_000])
def test_all_pair_logps_keeps_the_order_whatever_the_micro_batches(
    policy: Policy, expected: torch.Tensor, max_tokens: int
) -> None:
    seen: list[tuple[int, int, str]] = []
    made = all_pair_logps(policy.model, PAIRS, policy.pad_token_id, max_tokens, lambda *at: seen.append(at))
    assert torch.allclose(made.double(), expected, rtol=1e-5, atol=1e-4)
    assert seen[-1] == (len(PAIRS), len(PAIRS), "pairs")


def test_rows_with_a_mask() -> None:
    rows = [[EncodedPair("a", [10, 11, 12], [20, 21], [30])], [EncodedPair("b", [13], [22], [31])]]
    batch = collate(rows, 0, "cpu", Sharing.MASK)
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 30], [13, 22, 31, 0, 0, 0]]
    assert batch.position_ids.tolist()[0] == [0, 1, 2, 3, 4, 3]
    assert batch.position_ids.tolist()[1][:3] == [0, 1, 1]
    assert batch.sources.tolist() == [2, 3, 2, 6, 6]
    assert batch.targets.tolist() == [20, 21, 30, 22, 31]
    assert batch.terms.tolist() == [0, 1, 2, 3, 4]
    assert batch.responses.tolist() == [0, 0, 1, 2, 3]
    assert batch.lengths.tolist() == [[2, 1], [1, 1]]
    allowed = batch.attention_mask(torch.float32)[0, 0] == 0
    assert allowed.tolist()[4] == [True, True, True, True, True, False]
    assert allowed.tolist()[5] == [True, True, True, False, False, True]


def test_a_tree_holds_once_what_sequences_have_in_common() -> None:
    # A system prompt 1 2, two prompts, responses that begin alike, and a response that another one continues.
    pairs = [EncodedPair("a", [1, 2, 3], [5, 6, 7, 0], [5, 6, 8, 0]), EncodedPair("b", [1, 2, 4], [9, 9], [9])]
    batch = collate([pairs], 0, "cpu")
    assert batch.input_ids.tolist() == [[1, 2, 3, 5, 6, 7, 8, 4, 9]]  # last tokens predict nothing
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 5, 2, 3]]
    predictions = list(zip(batch.sources.tolist(), batch.targets.tolist(), strict=True))
    assert predictions == [(2, 5), (3, 6), (4, 7), (5, 0), (4, 8), (6, 0), (7, 9), (8, 9)]
    assert batch.terms.tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6, 7, 6]
    assert batch.responses.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3]
    assert batch.lengths.tolist() == [[4, 4], [2, 1]]
    assert batch.layout is not None
    places = batch.layout.tokens.tolist()
    assert batch.layout.shapes[0][1] == 6
    assert [places[:6], places[6:12]] == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 6]]
    assert [places[place] for place in batch.layout.places.tolist()] == list(range(9))


tokens = st.lists(st.integers(6, 8), min_size=1, max_size=6)


@given(st.lists(st.tuples(tokens, tokens, tokens), min_size=1, max_size=5))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pairs_that_begin_alike_have_the_log_probabilities_and_gradients_of_separate_sequences(
    policy: Policy, drawn: list[tuple[list[int], list[int], list[int]]]
) -> None:
    pairs = [EncodedPair(str(number), *one) for number, one in enumerate(drawn)]
    made = []
    for sharing in (Sharing.LAYOUT, Sharing.NONE):
        logps = pair_logps(policy.model, collate([pairs], policy.pad_token_id, "cpu", sharing))
        weights = torch.linspace(-1, 1, logps.numel()).view_as(logps) + 0.1
        made.append((logps.detach(), torch.autograd.grad((weights * logps).sum(), list(policy.model.parameters()))))
    (tree, of_tree), (apart, of_apart) = made
    assert torch.allclose(tree, apart, rtol=1e-5, atol=1e-4)
    scale = sum(float(one.norm()) for one in of_apart)
    assert all((one - other).norm() <= 1e-5 * scale for one, other in zip(of_tree, of_apart, strict=True))


def test_attention_splits_short_sequences_from_long_ones_where_that_saves_scores() -> None:
    alike, different = [[*range(90)], [*range(100)]], [[*range(30)], [*range(900)], [*range(900)], [*range(300)]]
    made = lay_out(different, 900, "cpu")
    assert lay_out(alike, 100, "cpu").shapes == ((2, 100),)
    assert made.shapes == ((2, 900), (1, 300), (1, 30))
    assert made.tokens.tolist() == [*range(900), *range(900), *range(300), *range(30)]
    assert made.tokens[made.places].tolist() == [*range(900)]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=9))
def test_attention_splits_where_no_other_groups_have_fewer_scores(lengths: list[int]) -> None:
    longest_first = sorted(lengths, reverse=True)

    def cost(ends: tuple[int, ...]) -> float:
        groups = zip((0, *ends), (*ends, len(lengths)), strict=True)
        return sum(GROUP_SCORES + (end - start) * longest_first[start] ** 2 / 2 for start, end in groups)

    every = (cost(ends) for n in range(len(lengths)) for ends in combinations(range(1, len(lengths)), n))
    shapes = lay_out([[*range(length)] for length in lengths], max(lengths), "cpu").shapes
    assert sum(count for count, _ in shapes) == len(lengths)
    assert sum(GROUP_SCORES + count * width**2 / 2 for count, width in shapes) == min(every)


def test_a_long_prompt_that_many_pairs_share_does_not_swell_the_attention() -> None:
    prompt = torch.randint(6, 60, (500,), generator=torch.Generator().manual_seed(0)).tolist()
    pairs = [EncodedPair(str(n), prompt, [60 + n, 1], [200 + n, 1]) for n in range(50)]
    made = micro_batches(range(50), pairs, 2100)
    assert [len(row) for (row,) in made] == [4] * 12 + [2]


lengths = st.lists(st.tuples(*[st.integers(1, 60)] * 3), min_size=1, max_size=30)


@given(lengths, st.integers(1, 400), st.sampled_from(Sharing), st.randoms(use_true_random=False))
def test_micro_batches_cover_every_index_once_within_the_budget(
    all_lengths: list[tuple[int, int, int]], max_tokens: int, sharing: Sharing, rng: Any
) -> None:
    pairs = [random_pair(one, seed) for seed, one in enumerate(all_lengths)]
    indices = rng.sample(range(len(pairs)), rng.randint(1, len(pairs)))
    made = micro_batches(indices, pairs, max_tokens, sharing)
    assert sorted(index for rows in made for row in rows for index in row) == sorted(indices)
    for rows in made:
        batch = collate([[pairs[index] for index in row] for row in rows], 0, "cpu", sharing)
        assert batch.input_ids.numel() <= max_tokens or len(rows) == len(rows[0]) == 1
        if sharing is Sharing.LAYOUT:  # no padding, not even a response's last token
            assert batch.input_ids.numel() <= sum(pairs[index].n_tokens - 2 for row in rows for index in row)
        if sharing is Sharing.MASK:
            assert float((batch.segments == PADDING).float().mean()) < 0.05


@pytest.mark.parametrize("max_tokens", [600, 2048, 8192])
def test_rows_stay_short_where_padding_allows(max_tokens: int) -> None:
    pairs = [random_pair((20, 30 + seed % 3, 30), seed) for seed in range(60)]
    for rows in micro_batches(range(60), pairs, max_tokens, Sharing.MASK):
        assert all(len(row) == 1 for row in rows)


@pytest.mark.parametrize("sharing", [Sharing.LAYOUT, Sharing.MASK])
def test_pairs_that_share_a_row_have_the_log_probabilities_of_separate_sequences(
    policy: Policy, expected: torch.Tensor, sharing: Sharing
) -> None:
    rows = [[0, 2, 4], [5, 1, 3]]
    batch = collate([[PAIRS[index] for index in row] for row in rows], policy.pad_token_id, "cpu", sharing)
    assert batch.input_ids.shape[0] == (1 if sharing is Sharing.LAYOUT else 2)
    with torch.no_grad():
        made = pair_logps(policy.model, batch)
    in_order = expected[[index for row in rows for index in row]]
    assert torch.allclose(made.double(), in_order, rtol=1e-5, atol=1e-4)


@given(st.integers(1, 70), st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**31 - 1))
def test_optimiser_batches_are_a_permutation_per_epoch(n: int, batch_size: int, epochs: int, seed: int) -> None:
    batches = optimiser_batches(n, batch_size, epochs, seed)
    assert batches == optimiser_batches(n, batch_size, epochs, seed)
    per_epoch = -(-n // batch_size)
    assert len(batches) == epochs * per_epoch
    for epoch in range(epochs):
        own = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(index for batch in own for index in batch) == list(range(n))
        assert [len(batch) for batch in own[:-1]] == [batch_size] * (per_epoch - 1)


def test_orders_differ_between_seeds_and_epochs_and_share_a_prefix_between_numbers_of_epochs() -> None:
    first, second = optimiser_batches(50, 50, 2, seed=1)
    assert first != second
    assert optimiser_batches(50, 50, 1, seed=2) != [first]
    assert optimiser_batches(50, 50, 1, seed=1) == [first]


def row(chosen: str, rejected: str, prompt: str = "What is the color of the fox?", **more: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        **more,
    }


def test_a_pair_is_encoded_as_the_policy_wrote_it(tokenizer: Any) -> None:
    rows = [row("The color of the fox is red.", "That is worth knowing.")]
    (pair,), excluded = encode_pairs(rows, tokenizer, 100, 100)
    assert not excluded
    text = tokenizer.decode(pair.prompt + pair.chosen)
    assert text == "<s><|user|>What is the color of the fox?<|assistant|>The color of the fox is red.</s>"
    assert pair.prompt.count(tokenizer.bos_token_id) == 1
    assert pair.rejected[-1] == tokenizer.eos_token_id


def test_a_pair_has_the_win_rates_of_its_row(tokenizer: Any) -> None:
    rows = [row("That is", "It is", chosen_win_rate=0.8, rejected_win_rate=0.3), row("That is", "It is")]
    pairs, _ = encode_pairs(rows, tokenizer, 100, 100)
    assert [pair.win_rates for pair in pairs] == [(0.8, 0.3), None]


def test_a_truncated_response_has_no_end_token(tokenizer: Any) -> None:
    finished = {"chosen_finish_reason": "length", "rejected_finish_reason": "stop"}
    (pair,), _ = encode_pairs([row("That is", "That is", **finished)], tokenizer, 100, 100)
    assert pair.rejected == [*pair.chosen, tokenizer.eos_token_id]


def test_pairs_past_a_limit_are_counted_and_the_others_never_cut(tokenizer: Any) -> None:
    short, long = "That is worth knowing.", "That is worth knowing. " * 3
    rows = [
        row(short, short),
        row(long, short),
        row(short, long),
        row(short, short, prompt="What is the color of the fox? " * 4),
        row("", short, chosen_finish_reason="length"),
    ]
    n_short = len(tokenizer(short, add_special_tokens=False)["input_ids"]) + 1
    n_prompt = len(tokenizer("What is the color of the fox?", add_special_tokens=False)["input_ids"]) + 3
    pairs, excluded = encode_pairs(rows, tokenizer, n_prompt, n_short)
    assert excluded == Counter(response_too_long=2, prompt_too_long=1, empty_response=1)
    assert encode_pairs(rows * 2, tokenizer, n_prompt, n_short)[1] == {name: 2 * n for name, n in excluded.items()}
    assert [(len(pair.chosen), len(pair.rejected)) for pair in pairs] == [(n_short, n_short)]
    assert encode_pairs(rows, tokenizer, n_prompt, n_short - 1)[0] == []
