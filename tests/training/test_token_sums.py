"""What is added up beside the sums, against every token taken the slow way, however pairs are laid out."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from aipo_lab.models.policy import Policy
from aipo_lab.objectives import get_objective
from aipo_lab.training.batches import Sharing, collate
from aipo_lab.training.config import TrainSettings
from aipo_lab.training.logprobs import all_pair_logps, pair_logps
from aipo_lab.training.loop import train_on_pairs
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.token_sums import TokenSums

MakePolicy = Callable[..., Policy]


def make_pairs(n: int) -> list[EncodedPair]:
    draw = random.Random(3)

    def tokens(longest: int) -> list[int]:
        return [draw.randint(6, 59) for _ in range(draw.randint(1, longest))]

    pairs = [EncodedPair(str(i), tokens(8), tokens(20), tokens(20)) for i in range(n)]
    same_beginning = EncodedPair("same", [7, 8], [9, 10, 11], [9, 10, 11, 12, 13])
    return [*pairs, same_beginning, EncodedPair("equal", [7], [9, 10], [11, 12])]


PAIRS = make_pairs(6)


def slowly(policy: Policy, pair: EncodedPair) -> list[float]:
    """The six columns of a pair, from whole logits of each response in a sequence of its own."""
    sums, tails, weights = [], [], []
    shared = min(len(pair.chosen), len(pair.rejected))
    for response in (pair.chosen, pair.rejected):
        ids = torch.tensor([pair.prompt + response])
        logits = policy.model(input_ids=ids).logits[0, len(pair.prompt) - 1 : -1].double()
        logps = logits.log_softmax(-1)
        of_tokens = logps.gather(1, torch.tensor(response)[:, None]).squeeze(1)
        sums.append(of_tokens.sum().item())
        tails.append(of_tokens[shared:].sum().item())
        weights.append((of_tokens - logps.exp().square().sum(-1).log()).mean().exp().item())
    return [*sums, *tails, *weights]


@pytest.mark.parametrize("sharing", Sharing)
def test_columns_are_those_of_the_tokens_one_by_one(make_policy: MakePolicy, sharing: Sharing) -> None:
    policy = make_policy()
    rows = [PAIRS[:3], PAIRS[3:]]
    with torch.no_grad():
        expected = torch.tensor([slowly(policy, pair) for pair in PAIRS])
        for sums in TokenSums:
            batch = collate(rows, policy.pad_token_id, "cpu", sharing, sums)
            assert torch.allclose(pair_logps(policy.model, batch), expected[:, : int(sums)], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ld_dpo", "wpo"])
def test_training_gives_the_objective_what_it_needs_whatever_the_micro_batches(
    make_policy: MakePolicy, name: str
) -> None:
    def trained(micro_batch_tokens: int, **hyperparameters: float) -> torch.Tensor:
        policy, objective = make_policy(), get_objective(name, **hyperparameters)
        reference = all_pair_logps(
            policy.model, PAIRS, policy.pad_token_id, 2000, lambda *_: None, sums=TokenSums.TAILS
        )
        settings = TrainSettings(learning_rate=1e-4, batch_size=4, epochs=2, micro_batch_tokens=micro_batch_tokens)
        train_on_pairs(policy, PAIRS, reference, objective, settings, 0, lambda *_: None)
        return torch.cat([one.detach().flatten() for one in policy.model.parameters()])

    whole = trained(100_000)
    assert torch.allclose(trained(60), whole, rtol=0, atol=1e-5)
    if name == "ld_dpo":
        assert not torch.allclose(trained(60, alpha=1.0), whole, rtol=0, atol=1e-5)
