"""Bootstrap intervals of a mean of few values, and of the speed-up over paired seeds.

What these intervals can hold was simulated (reports/statistics). Percentile intervals, and BCa,
which shifts percentiles, lie inside the range of the values, and the range of n values has a
symmetric centre in it with probability 1 - 2**(1 - n): 75% at n = 3, 94% at n = 5. No method of
that family can be a 95% interval there, and they stay short of it up to n = 10 (91%). The
studentised interval (bootstrap-t) covers from n = 4 on, wider than Student's t (on the log scale
1.9 times at 4, 1.1 times at 8). At n = 3 it is infinite: 3 of the 27 resamples draw one value
three times and have no spread. So: three pairs bear Student's t-interval and no bootstrap.

Resamples are enumerated, not drawn, up to n = 10: the n**n ordered resamples are comb(2n - 1, n)
sets of counts with multinomial weights (92,378 at n = 10), so the limits have no randomness.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from scipy.special import gammaln
from scipy.stats import norm
from scipy.stats import t as student

from wg.errors import UserError
from wg.measure.stats import Bound, speed_up

Method = Literal["t", "studentised", "bca", "percentile"]
LARGEST_EXACT = 10
DRAWN = 19_999  # resamples where enumeration is too many
_AT_ONCE = 4_000_000  # numbers in one block of resampled means: 32 MB
_NO_SPREAD = 1e-6  # of the values' own standard deviation; rounding leaves about 1e-8


@lru_cache(maxsize=4)
def resamples(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """How often a resample takes each value, (R, n), and each resample's probability (R,).

    All of them up to ``LARGEST_EXACT`` values; beyond, ``DRAWN`` ones drawn with ``seed``.
    """
    if n > LARGEST_EXACT:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n, np.full(n, 1 / n), DRAWN)
        return drawn.astype(float), np.full(DRAWN, 1 / DRAWN)
    sets = np.array(list(itertools.combinations_with_replacement(range(n), n)))
    counts = np.stack([np.sum(sets == i, axis=1) for i in range(n)], axis=1)
    logs = gammaln(n + 1) - gammaln(counts + 1).sum(axis=1) - n * math.log(n)
    return counts.astype(float), np.exp(logs)


def interval_limits(
    values: np.ndarray, level: float = 0.95, method: Method = "studentised", seed: int = 0
) -> np.ndarray:
    """Two-sided intervals of the mean over the last axis: values (..., n) to limits (..., 2).

    t            Student's: exact for normal values
    studentised  bootstrap-t (Efron & Tibshirani 1993, ch. 12.5); +-inf where resamples without
                 spread weigh more than the tail, as they do at n = 3
    bca          bias-corrected and accelerated (Efron 1987, J. Am. Stat. Assoc. 82, 171-185)
    percentile   plain quantiles of the resampled means

    Errors: UserError for fewer than 2 values, a level outside (0, 1) or an unknown method.
    """
    x = np.asarray(values, dtype=float)
    n = x.shape[-1]
    if n < 2:
        raise UserError("an interval needs at least 2 values.")
    if not 0 < level < 1:
        raise UserError(f"level={level:g} must be between 0 and 1, such as 0.95.")
    if method not in get_args(Method):
        raise UserError(f"no interval '{method}'; known: {', '.join(get_args(Method))}.")
    rows = x.reshape(-1, n)
    mean, sd = rows.mean(axis=1), rows.std(axis=1, ddof=1)
    unit = np.divide(rows - mean[:, None], sd[:, None], where=sd[:, None] > 0, out=rows * 0)
    tail = (1 - level) / 2
    if method == "t":
        half = float(student.ppf(1 - tail, n - 1)) / math.sqrt(n)
        limits = np.array([[-half, half]]).repeat(len(rows), axis=0)
    else:
        counts, weights = resamples(n, seed)
        block = max(1, _AT_ONCE // len(weights))
        parts = [
            _standard_limits(unit[i : i + block], counts, weights, tail, method)
            for i in range(0, len(rows), block)
        ]
        limits = np.concatenate(parts)
    with np.errstate(invalid="ignore"):  # 0 * inf: values without any spread
        found = mean[:, None] + np.where(sd[:, None] > 0, sd[:, None] * limits, 0.0)
    return found.reshape(*x.shape[:-1], 2)


def _standard_limits(
    z: np.ndarray, counts: np.ndarray, weights: np.ndarray, tail: float, method: Method
) -> np.ndarray:
    """Limits (m, 2) for values z (m, n) of mean 0 and standard deviation 1."""
    n = z.shape[1]
    means = z @ counts.T / n
    tails = np.full((len(z), 2), (tail, 1 - tail))
    if method == "studentised":
        square = (z * z) @ counts.T - n * means * means
        spread = np.sqrt(np.maximum(square, 0) / (n - 1))
        flat = spread < _NO_SPREAD
        ratios = means / np.where(flat, 1.0, spread)  # t* / root n
        ratios = np.where(flat & (np.abs(means) > _NO_SPREAD), np.copysign(np.inf, means), ratios)
        return -_quantiles(ratios, weights, tails)[:, ::-1]
    if method == "bca":
        below = (means < -_NO_SPREAD) @ weights
        equal = (np.abs(means) <= _NO_SPREAD) @ weights
        bias = norm.ppf(below + equal / 2)[:, None]
        cubes, squares = (z**3).sum(axis=1), (z**2).sum(axis=1)
        skew = np.divide(cubes, 6 * squares**1.5, where=squares > 0, out=np.zeros(len(z)))
        shifted = bias + norm.ppf(tails)
        tails = norm.cdf(bias + shifted / (1 - skew[:, None] * shifted))
    return _quantiles(means, weights, tails)


def _quantiles(values: np.ndarray, weights: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Of each row of values (m, R): the smallest one with at least the probability tails (m, 2)
    at or below it."""
    order = np.argsort(values, axis=1)
    ranked = np.take_along_axis(values, order, axis=1)
    mass = np.cumsum(weights[order], axis=1)
    at = [np.sum(mass < tails[:, i, None] - 1e-12, axis=1) for i in (0, 1)]
    index = np.minimum(np.stack(at, axis=1), values.shape[1] - 1)
    return np.take_along_axis(ranked, index, axis=1)


@dataclass(frozen=True)
class BootstrapSpeedUp:
    """Geometric mean over seeds of baseline time / arm time, with a bootstrap interval.

    estimate   the factor; a bound on it when ``bound`` is not 'exact'; None when unknown
    low, high  limits at ``level``; None where there is none. With bound 'at least' only low, with
               'at most' only high is a limit
    resamples  how many different ones; ``exact``: they are all there are, with their weights
    """

    estimate: float | None
    low: float | None
    high: float | None
    bound: Bound
    method: Method
    level: float
    resamples: int
    exact: bool
    n: int
    pairs: dict[int, float]
    note: str


def bootstrap_speed_up(
    baseline: Mapping[int, float],
    arm: Mapping[int, float],
    baseline_spent: Mapping[int, float],
    arm_spent: Mapping[int, float],
    comparisons: int = 1,
    method: Method = "studentised",
    seed: int = 0,
) -> BootstrapSpeedUp:
    """How many times sooner ``arm`` is, resampling pairs of runs (seeds) on the log factors.

    Misses bound pairs and pairs bound the mean exactly as in :func:`wg.measure.stats.speed_up`.
    When all bounds are from below, the mean of the bounds is below the mean of the factors, so a
    lower limit of the one is a lower limit of the other, and there is no upper one (and the other
    way round). A run that diverged has spent ``math.inf``: nothing is known. ``comparisons``: arms
    whose intervals are to hold together (Bonferroni).
    """
    level = 1 - 0.05 / max(comparisons, 1)
    shared = set(baseline) & set(arm)
    sides = ((baseline, baseline_spent), (arm, arm_spent))
    if bad := {s for s in shared for t, c in sides if math.isinf(t[s]) and math.isinf(c[s])}:
        note = f"a run diverged in {len(bad)} of {len(shared)} pairs"
        return BootstrapSpeedUp(
            None, None, None, "unknown", method, level, 0, False, len(shared), {}, note
        )
    known = speed_up(baseline, arm, baseline_spent, arm_spent)
    n, low, high, note = known.n, -math.inf, math.inf, known.note
    if known.estimate is not None and n >= 3:
        logs = np.log([known.pairs[s] for s in sorted(known.pairs)])
        low, high = interval_limits(logs, level, method, seed)
    low = -math.inf if known.bound == "at most" else low
    high = math.inf if known.bound == "at least" else high
    if n >= 3 and known.estimate is not None and math.isinf(low) and math.isinf(high):
        note += f"; no {method} interval: too many resamples have no spread"
    used = 0 if n < 3 or method == "t" else len(resamples(n, seed)[1])
    return BootstrapSpeedUp(
        known.estimate,
        None if math.isinf(low) else math.exp(low),
        None if math.isinf(high) else math.exp(high),
        known.bound,
        method,
        level,
        used,
        used > 0 and n <= LARGEST_EXACT,
        n,
        known.pairs,
        note,
    )
