"""Drawing the next tokens from logits, each row by a uniform number of its own.

Order of the restrictions, each over what the former ones left: repetition penalty, temperature, top_k, top_p, min_p. A
row's tokens are lined up by falling probability and its uniform number picks one. Hence a row's token depends on its
logits and its number alone, and logits that differ by rounding give the same token but for a share of draws as small.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aipo_lab.core.errors import StageFailed
from aipo_lab.generation.engine import SamplingConfig

HEAD_TOKENS = (64, 1024)
"""Likeliest tokens looked at first; only rows that need more have the whole vocabulary sorted."""


def draw(logits: Tensor, sampling: SamplingConfig, uniforms: Sequence[float], seen: Sequence[Sequence[int]]) -> Tensor:
    """One token for every row of `logits` (n, V), which may be changed; shape (n,).

    `uniforms`: n numbers in [0, 1). `seen`: every row's tokens so far, prompt included; read if there is a repetition
    penalty. Raises `StageFailed` if a row's logits are not numbers.
    """
    if sampling.repetition_penalty != 1:
        penalise(logits, seen, sampling.repetition_penalty)
    best = logits.amax(-1, keepdim=True)
    if not bool(best.isfinite().all()):
        raise StageFailed("the policy's logits are not finite numbers: its weights are broken")
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scores = logits.sub_(best).div_(sampling.temperature)
    normaliser = scores.logsumexp(-1, keepdim=True)
    numbers = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)
    tokens = torch.empty(len(scores), dtype=torch.long, device=logits.device)
    rest = torch.arange(len(scores), device=logits.device)
    for size in _head_sizes(scores.shape[1], sampling):
        values, ids = (scores if len(rest) == len(scores) else scores[rest]).topk(size)
        shares = (values - normaliser[rest]).double().exp()
        places, sure = _draw_from_head(shares, sampling, numbers[rest], whole=size == scores.shape[1])
        tokens[rest[sure]] = ids.gather(1, places[:, None])[sure, 0]
        rest = rest[~sure]
        if not len(rest):
            break
    return tokens


def penalise(logits: Tensor, seen: Sequence[Sequence[int]], penalty: float) -> None:
    """Divide positive logits of seen tokens by the penalty and multiply negative ones by it, in place."""
    rows = torch.tensor([row for row, tokens in enumerate(seen) for _ in set(tokens)], device=logits.device)
    ids = torch.tensor([token for tokens in seen for token in set(tokens)], device=logits.device)
    values = logits[rows, ids]
    logits[rows, ids] = torch.where(values > 0, values / penalty, values * penalty)


def log_probabilities(logits: Tensor, tokens: Tensor) -> list[float]:
    """Log-probabilities in nats of one token a row (n,) under logits (n, V) as they are."""
    chosen = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    values: list[float] = chosen.tolist()
    return values


def _head_sizes(vocabulary: int, sampling: SamplingConfig) -> list[int]:
    return [*(size for size in HEAD_TOKENS if sampling.top_k <= size < vocabulary), vocabulary]


def _draw_from_head(
    shares: Tensor, sampling: SamplingConfig, uniforms: Tensor, *, whole: bool
) -> tuple[Tensor, Tensor]:
    """Places (n,) drawn among the k likeliest tokens, and whether the others could not have been drawn (n,).

    `shares`: (n, k) probabilities of the whole distribution, falling; `whole`: nothing is left out of them.
    """
    if sampling.top_k:
        shares = shares.clone()
        shares[:, sampling.top_k :] = 0
    complete = whole or 0 < sampling.top_k <= shares.shape[1]
    mass = shares.sum(-1, keepdim=True) if complete else torch.ones_like(shares[:, :1])
    kept = shares.cumsum(-1) - shares < sampling.top_p * mass if sampling.top_p < 1 else torch.ones_like(shares) > 0
    kept &= shares >= sampling.min_p * shares[:, :1]
    cumulative = (shares * kept).cumsum(-1)
    ends_inside = ~kept[:, -1]
    known = ends_inside | complete
    total = torch.where(known, cumulative[:, -1], mass[:, 0])
    targets = uniforms * total
    places = (cumulative <= targets[:, None]).sum(-1)
    restricted = sampling.top_p < 1 or sampling.min_p > 0
    sure = known if restricted else known | (places < shares.shape[1])
    last = kept.sum(-1) - 1
    return places.minimum(last), sure
