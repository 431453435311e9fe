"""Student's t distribution: tail probabilities and quantiles, with no package but the standard library's.

Through the regularised incomplete beta function by its continued fraction (NIST Digital Library of Mathematical
Functions, 8.17.5 and 8.17.22), evaluated from the front by Lentz's method.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

NORMAL = NormalDist()
MANY = 1e6
"""Degrees of freedom from which on the normal distribution is as good."""
_TINY = 1e-300


def upper_tail(t: float, degrees_of_freedom: float) -> float:
    """P(T > t), 0 to 1; `degrees_of_freedom` need not be whole, and may be infinite."""
    assert degrees_of_freedom > 0
    if degrees_of_freedom > MANY or math.isinf(t):
        return 0.5 * math.erfc(t / math.sqrt(2))
    both = _incomplete_beta(degrees_of_freedom / (degrees_of_freedom + t * t), degrees_of_freedom / 2, 0.5)
    return both / 2 if t > 0 else 1 - both / 2


@lru_cache(maxsize=4096)
def quantile(probability: float, degrees_of_freedom: float) -> float:
    """The t that T stays below with that probability, between 0 and 1."""
    if degrees_of_freedom > MANY:
        return NORMAL.inv_cdf(probability)
    if probability < 0.5:
        return -quantile(1 - probability, degrees_of_freedom)
    if probability == 0.5:
        return 0.0
    t = NORMAL.inv_cdf(probability)  # on the near side of it, from where Newton's steps never go too far
    for _ in range(100):
        step = (upper_tail(t, degrees_of_freedom) - (1 - probability)) / _density(t, degrees_of_freedom)
        t += step
        if abs(step) < 1e-12 * t:
            break
    return t


def _density(t: float, df: float) -> float:
    logarithm = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(logarithm - (df + 1) / 2 * math.log1p(t * t / df))


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) / (a * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...))."""
    value = numerator = 1.0
    denominator = 0.0
    for n in range(1, 10_000):
        m = n // 2
        if n % 2 == 0:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        denominator = 1 / ((1 + d * denominator) or _TINY)
        numerator = (1 + d / numerator) or _TINY
        value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-14:
            break
    return value
