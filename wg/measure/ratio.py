"""A ratio of times with an interval that assumes nothing of their distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, stdev

LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """Median of n paired ratios, the interval [low, high] and the coverage it has: at least 0.95
    from six pairs on, 1 - 2**(1 - n) below."""

    median: float
    low: float
    high: float
    coverage: float
    n: int


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """The median of numerator[i] / denominator[i], measured one right after the other, so that
    what slows a machine down for a while slows both. The interval is that of order statistics
    (David & Nagaraja 2003, section 7.1). It says how well *this* comparison is known: another
    machine, or another day, is another one.
    """
    assert len(numerator) == len(denominator) > 0
    ratios = sorted(a / b for a, b in zip(numerator, denominator, strict=True))
    n = len(ratios)
    skip, coverage = _skipped(n)
    return Ratio(median(ratios), ratios[skip], ratios[n - 1 - skip], coverage, n)


def log_error(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Standard error of the logarithm of the ratio of both medians, from paired rounds: that of a
    normal sample's median, sqrt(pi / 2) times the mean's (Kenney & Keeping 1962, section 13.13).
    0 of a single round, which tells none."""
    logs = [math.log(a / b) for a, b in zip(numerator, denominator, strict=True)]
    return math.sqrt(math.pi / 2 / len(logs)) * stdev(logs) if len(logs) > 1 else 0.0


def _skipped(n: int) -> tuple[int, float]:
    """(how many to leave out at each end, the coverage that remains): the median of the
    distribution lies between the k-th smallest and the k-th largest unless fewer than k fall on
    one of its sides, a binomial chance."""

    def covered(skip: int) -> float:
        return 1 - 2 * sum(math.comb(n, j) for j in range(skip + 1)) / 2**n

    skip = 0
    while 2 * (skip + 1) < n and covered(skip + 1) >= LEVEL:
        skip += 1
    return skip, covered(skip)
