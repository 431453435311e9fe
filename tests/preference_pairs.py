"""Pairs worked out by hand, as an objective takes them, for the tests of the objectives."""

from __future__ import annotations

import math

import torch

from aipo_lab.objectives import get_objective

# sums of log-probabilities in nats and lengths in tokens; the log ratios (chosen, rejected) are
# (1, -1.5), (5, -9) and (-2, 2)
PAIRS = [
    {"lw": -14.0, "ll": -11.5, "rw": -15.0, "rl": -10.0, "nw": 12, "nl": 9},
    {"lw": -3.0, "ll": -30.0, "rw": -8.0, "rl": -21.0, "nw": 2, "nl": 40},
    {"lw": -20.0, "ll": -10.0, "rw": -18.0, "rl": -12.0, "nw": 5, "nl": 7},
]
WIN_RATES = {"chosen_win_rate": [0.8, 0.9, 0.55], "rejected_win_rate": [0.3, 0.05, 0.5]}
BY_TOKEN = {
    "tails": [[-3.0, 0.0], [0.0, -28.0], [0.0, -2.0]],
    "reference_tails": [[-2.0, 0.0], [0.0, -20.0], [0.0, -3.0]],
    "policy_weights": [[0.9, 0.4], [1.3, 0.7], [0.5, 0.8]],
}
DTYPES = [torch.float32, torch.float64]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def log_sigmoid(z: float) -> float:
    return -math.log(1 + math.exp(-z))


def tensors(pairs: list[dict[str, float]], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.tensor([pair[name] for pair in pairs], dtype=dtype) for name in ("lw", "ll", "rw", "rl", "nw", "nl")]


def win_rates(n: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values[:n], dtype=dtype) for name, values in WIN_RATES.items()}


def extras(n: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """All that some objectives need beside sums and lengths."""
    tails = {name: torch.tensor(values[:n], dtype=dtype) for name, values in BY_TOKEN.items()}
    return win_rates(n, dtype) | tails


def losses(name: str, pairs: list[dict[str, float]] = PAIRS, **hyperparameters: float) -> list[float]:
    return get_objective(name, **hyperparameters)(*tensors(pairs), **extras(len(pairs))).tolist()


def swapped(pairs: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{"lw": p["ll"], "ll": p["lw"], "rw": p["rl"], "rl": p["rw"], "nw": p["nl"], "nl": p["nw"]} for p in pairs]
