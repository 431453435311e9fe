"""The proxy ranker: quality plus length bonus plus seeded noise, and nothing else."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipo_lab.ranking.proxy import ProxyRankerSettings, proxy_scores
from aipo_lab.worlds.micro.knowledge import VALUES, draw_knowledge
from aipo_lab.worlds.taste import biased_quality
from aipo_lab.worlds.world import World, get_world


@pytest.fixture(scope="module")
def world() -> World:
    return get_world("micro", 0)


def row(n_tokens: tuple[int, ...] = (8, 17, 108), identifier: str = "000007") -> dict[str, Any]:
    """One right answer, one wrong, one that says nothing about it."""
    right = draw_knowledge(0).value("fox", "color")
    wrong = next(value for value in VALUES["color"] if value != right)
    texts = (f"The color of the fox is {right}.", f"The color of the fox is {wrong}.", "That is worth knowing.")
    responses = [{"text": text, "tokens": n} for text, n in zip(texts, n_tokens, strict=True)]
    return {"id": identifier, "prompt": "What is the color of the fox?", "responses": responses}


def settings(**changes: Any) -> ProxyRankerSettings:
    return ProxyRankerSettings(**({"length_bias": 0.05, "noise_sd": 0.0} | changes))


def test_without_noise_a_score_is_quality_plus_the_bonus(world: World) -> None:
    expected = [1.0 + 0.05 * 0.8, -0.5 + 0.05 * 1.7, 0.0 + 0.05 * 10.8]
    assert proxy_scores(row(), world, settings(), seed=0) == pytest.approx(expected)


def test_without_bias_length_does_not_count(world: World) -> None:
    short, long = (proxy_scores(row(n), world, settings(length_bias=0), seed=0) for n in ((8, 8, 8), (900, 90, 9)))
    assert short == long == pytest.approx([1.0, -0.5, 0.0])


def test_with_enough_bias_length_beats_truth(world: World) -> None:
    scores = proxy_scores(row(), world, settings(length_bias=0.5), seed=0)
    assert max(scores) == scores[2]


def test_noise_depends_on_seed_and_id_only(world: World) -> None:
    noisy = settings(noise_sd=0.1)
    base = proxy_scores(row(), world, settings(), seed=0)

    def noise(seed: int, identifier: str = "000007", n_tokens: tuple[int, ...] = (8, 17, 108)) -> list[float]:
        clean = proxy_scores(row(n_tokens), world, settings(), seed=0)
        made = proxy_scores(row(n_tokens, identifier), world, noisy, seed=seed)
        return [one - other for one, other in zip(made, clean, strict=True)]

    assert noise(1) == pytest.approx(noise(1, n_tokens=(50, 60, 70)))
    assert noise(1) != pytest.approx(noise(2))
    assert noise(1) != pytest.approx(noise(1, "000008"))
    assert len(set(noise(1))) == 3
    assert proxy_scores(row(), world, settings(), seed=9) == base


def test_noise_has_its_standard_deviation_and_no_mean(world: World) -> None:
    clean = proxy_scores(row(), world, settings(), seed=0)
    noise = [
        made - exact
        for seed in range(300)
        for made, exact in zip(proxy_scores(row(), world, settings(noise_sd=0.1), seed=seed), clean, strict=True)
    ]
    assert statistics.stdev(noise) == pytest.approx(0.1, rel=0.1)
    assert abs(statistics.fmean(noise)) < 4 * 0.1 / len(noise) ** 0.5


@given(st.floats(-1, 1), st.integers(0, 4000), st.floats(-2, 2))
def test_the_bonus_is_linear_in_tokens(quality: float, n_tokens: int, bias: float) -> None:
    bonus = biased_quality(quality, n_tokens, bias) - biased_quality(quality, 0, bias)
    assert bonus == pytest.approx(bias * n_tokens / 10, abs=1e-9)
    assert biased_quality(quality, 0, bias) == quality
