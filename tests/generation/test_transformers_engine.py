"""The `transformers` engine on a random model: ends, stop strings, caps, and what tokens are drawn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from aipo_lab.generation.engine import SamplingConfig
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.models.policy import Policy

MakePolicy = Callable[..., Policy]
GREEDY = SamplingConfig(temperature=0, max_new_tokens=40)
PROMPTS = [[1, 4, *range(10, 10 + n), 5] for n in (3, 1, 30, 7, 12, 2)]


@pytest.fixture(scope="module")
def policy(make_policy: MakePolicy) -> Policy:
    """A random policy that ends some of its completions, and not others, within 40 tokens."""
    return ending_policy(make_policy)


def ending_policy(make_policy: MakePolicy, boost: float = 1.2) -> Policy:
    policy = make_policy(seed=1)
    with torch.no_grad():
        policy.model.lm_head.weight[policy.end_token_id] *= boost
    return policy


def greedy_by_hand(policy: Policy, prompt: list[int], limit: int) -> tuple[list[int], str]:
    """Take the likeliest token again and again, each by a forward pass over the whole unpadded sequence."""
    ids = list(prompt)
    while len(ids) - len(prompt) < limit:
        with torch.no_grad():
            ids.append(int(policy.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in policy.end_token_ids:
            return ids[len(prompt) : -1], "stop"
    return ids[len(prompt) :], "length"


@pytest.fixture(scope="module")
def by_hand(policy: Policy) -> list[tuple[str, int, str]]:
    made = [greedy_by_hand(policy, prompt, GREEDY.max_new_tokens) for prompt in PROMPTS]
    return [
        (policy.tokenizer.decode(tokens, skip_special_tokens=True), len(tokens) + (reason == "stop"), reason)
        for tokens, reason in made
    ]


def as_tuples(completions: list[list]) -> list[tuple[str, int, str]]:
    return [(one.text, one.n_tokens, one.finish_reason) for row in completions for one in row]


def test_the_test_has_both_ends(by_hand: list[tuple[str, int, str]]) -> None:
    assert Counter(reason for _, _, reason in by_hand).keys() == {"stop", "length"}


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_greedy_in_batches_of_any_size_is_greedy_by_hand(
    policy: Policy, by_hand: list[tuple[str, int, str]], batch_size: int
) -> None:
    assert as_tuples(TransformersEngine(policy, batch_size).generate(PROMPTS, 1, GREEDY, seed=0)) == by_hand


def test_the_same_arguments_give_the_same_completions_and_another_seed_others(policy: Policy) -> None:
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=24)
    engine = TransformersEngine(policy, 4)
    first = as_tuples(engine.generate(PROMPTS, 3, sampling, seed=7))
    torch.rand(5)  # the engine draws from a seed of its own
    assert as_tuples(engine.generate(PROMPTS, 3, sampling, seed=7)) == first
    assert as_tuples(engine.generate(PROMPTS, 3, sampling, seed=8)) != first
    assert len(set(first)) > 12  # the candidates of a prompt are drawn separately


def test_sampling_leaves_the_random_state_of_the_process_alone(policy: Policy) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    TransformersEngine(policy, 4).generate(PROMPTS[:2], 1, SamplingConfig(max_new_tokens=4), seed=0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("cap", [1, 5, 16, 17])
def test_the_cap_is_the_cap_and_says_so(make_policy: MakePolicy, cap: int) -> None:
    policy = make_policy(seed=1)
    with torch.no_grad():
        policy.model.lm_head.weight[policy.end_token_id] = 0
    engine = TransformersEngine(policy, 8)
    rows = engine.generate(PROMPTS, 2, SamplingConfig(temperature=1.0, max_new_tokens=cap), seed=0)
    cut = [one for row in rows for one in row if one.truncated]
    assert len(cut) > 6
    assert {(one.n_tokens, one.finish_reason) for one in cut} == {(cap, "length")}
    for row in rows:
        for one in row:
            assert one.n_tokens <= cap
            assert one.truncated == (one.finish_reason == "length")


def test_a_policy_that_ends_at_once_wrote_one_token_and_no_text(make_policy: MakePolicy) -> None:
    policy = make_policy(seed=1)
    original = policy.model.lm_head.forward

    def only_the_end(hidden: torch.Tensor) -> torch.Tensor:
        logits = original(hidden)
        logits[..., policy.end_token_id] = 1e4
        return logits

    policy.model.lm_head.forward = only_the_end
    made = as_tuples(TransformersEngine(policy, 4).generate(PROMPTS, 2, SamplingConfig(max_new_tokens=9), seed=0))
    assert made == [("", 1, "stop")] * 12


def test_every_declared_end_token_ends_a_completion(policy: Policy, by_hand: list[tuple[str, int, str]]) -> None:
    tokens, _ = greedy_by_hand(policy, PROMPTS[0], 40)
    extra, at = tokens[4], tokens.index(tokens[4])
    declared = policy.model.generation_config.eos_token_id
    policy.model.generation_config.eos_token_id = [declared, extra]
    try:
        ((one,),) = TransformersEngine(policy, 1).generate(PROMPTS[:1], 1, GREEDY, seed=0)
    finally:
        policy.model.generation_config.eos_token_id = declared
    assert (one.n_tokens, one.finish_reason) == (at + 1, "stop")
    assert one.text == policy.tokenizer.decode(tokens[:at], skip_special_tokens=True)


def test_a_stop_string_is_cut_with_all_that_follows(policy: Policy, by_hand: list[tuple[str, int, str]]) -> None:
    text = max((row[0] for row in by_hand), key=len)
    stop, later = text[len(text) // 3 :][:4], text[len(text) // 2 :][:4]
    made = TransformersEngine(policy, 3).generate(PROMPTS, 1, GREEDY, seed=0, stop=[later, stop])
    for (one,), (whole, _, reason) in zip(made, by_hand, strict=True):
        cuts = [whole.index(string) for string in (stop, later) if string in whole]
        assert one.text == (whole[: min(cuts)] if cuts else whole)
        assert one.finish_reason == ("stop" if cuts else reason)
    assert sum(stop in whole for whole, _, _ in by_hand) >= 1


def test_a_temperature_close_to_zero_is_almost_greedy(policy: Policy, by_hand: list[tuple[str, int, str]]) -> None:
    cold = SamplingConfig(temperature=1e-4, max_new_tokens=40)
    assert as_tuples(TransformersEngine(policy, 64).generate(PROMPTS, 1, cold, seed=0)) == by_hand


def test_top_k_and_top_p_restrict_what_is_drawn(policy: Policy, by_hand: list[tuple[str, int, str]]) -> None:
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}):
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=40, **narrow)
        assert as_tuples(TransformersEngine(policy, 64).generate(PROMPTS, 1, sampling, seed=0)) == by_hand


def test_tokens_are_drawn_from_the_models_distribution(policy: Policy) -> None:
    with torch.no_grad():
        probabilities = policy.model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    engine = TransformersEngine(policy, 500)
    (made,) = engine.generate(PROMPTS[:1], 2000, SamplingConfig(temperature=1.0, max_new_tokens=1), seed=0)
    drawn = Counter(one.text for one in made if one.finish_reason == "length")
    likeliest = [int(token) for token in probabilities.topk(4).indices if int(token) > 5]
    for token in likeliest:
        share, expected = drawn[policy.tokenizer.decode([token])] / 2000, float(probabilities[token])
        assert abs(share - expected) < 5 * (expected * (1 - expected) / 2000) ** 0.5
