"""How many seeds a comparison needs, from a pilot's spread of paired log ratios.

All through Student's t and the noncentral t: at these numbers the normal approximation promises
too much (for a half width of twice the spread it asks for 1 pair, where it takes 4).

Effects and widths are logs of factors: log(1.2) is "20% sooner". ``sd`` is the standard deviation
over seeds of log(baseline time / arm time).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import chi2, nct, norm
from scipy.stats import t as student

from wg.errors import UserError

MOST_SEEDS = 10_000


def half_width(n: int, sd: float, level: float = 0.95, assurance: float = 0.5) -> float:
    """Half the width, as a log factor, that the t-interval of n pairs stays within with
    probability ``assurance``, when the true standard deviation is ``sd``.

    The sample's own spread varies, (n - 1) s^2 / sd^2 is chi-squared with n - 1 degrees of
    freedom, so the width does: 0.5 gives the median width, 0.8 one that 4 of 5 studies keep.

    Errors: UserError for n < 2, sd <= 0, or probabilities outside (0, 1).
    """
    _check(n, sd, level=level, assurance=assurance)
    t = float(student.ppf(0.5 + level / 2, n - 1))
    return t * sd * math.sqrt(float(chi2.ppf(assurance, n - 1)) / (n - 1) / n)


def seeds_for_width(
    wanted: float, sd: float, level: float = 0.95, assurance: float = 0.5, comparisons: int = 1
) -> int:
    """The fewest pairs whose t-interval of the log speed-up is at most +-``wanted`` wide with
    probability ``assurance``. wanted = log(1.1): a factor known to within 10% either way.
    ``comparisons`` > 1: intervals widened by Bonferroni to hold together.

    Errors: UserError for a width not above 0, or one that more than 10,000 seeds would need.
    """
    if not wanted > 0:
        raise UserError(f"the wanted half width is {wanted:g}: give a log factor above 0.")
    joint = 1 - (1 - level) / max(comparisons, 1)
    return _fewest(lambda n: half_width(n, sd, joint, assurance) <= wanted)


def power(n: int, effect: float, sd: float, alpha: float = 0.05, comparisons: int = 1) -> float:
    """Chance that the one-sided paired t-test at ``alpha`` / ``comparisons`` finds an arm whose
    true log speed-up is ``effect``: the noncentral t with n - 1 degrees of freedom and
    noncentrality effect * sqrt(n) / sd. With Holm over m arms, comparisons = m is its worst case.
    """
    _check(n, sd, alpha=alpha)
    critical = float(student.isf(alpha / max(comparisons, 1), n - 1))
    value = float(nct.sf(critical, n - 1, effect * math.sqrt(n) / sd))
    if not 0 <= value <= 1:  # scipy loses the far tail of a huge noncentrality
        return _power_by_integration(n, effect, sd, critical)
    return value


def _power_by_integration(n: int, effect: float, sd: float, critical: float) -> float:
    """P(Z + d > c S) = E[Phi(d - c S)] over S^2 ~ chi-squared / df, on quantiles of S."""
    df = n - 1
    s = np.sqrt(chi2.ppf((np.arange(20_000) + 0.5) / 20_000, df) / df)
    return float(np.mean(norm.cdf(effect * math.sqrt(n) / sd - critical * s)))


def seeds_for_power(
    effect: float, sd: float, wanted: float = 0.8, alpha: float = 0.05, comparisons: int = 1
) -> int:
    """The fewest pairs that give the one-sided paired t-test that power.

    Errors: UserError for an effect not above 0 (log of a factor not above 1), a power outside
    (0, 1), or more than 10,000 seeds.
    """
    if not effect > 0:
        raise UserError(f"the effect is {effect:g}: give the log of a speed-up above 1.")
    _check(2, sd, power=wanted)
    return _fewest(lambda n: power(n, effect, sd, alpha, comparisons) >= wanted)


def sd_upper(sd: float, n: int, confidence: float = 0.8) -> float:
    """Upper confidence limit of the true standard deviation from a pilot of n pairs.

    A pilot of 3 is often far too low: its upper 80% limit is 2.1 times what it found. Planning
    with the limit keeps the promised width or power in that share of studies (Browne 1995,
    Statistics in Medicine 14, 1933-1940).
    """
    _check(n, sd, confidence=confidence)
    return sd * math.sqrt((n - 1) / float(chi2.ppf(1 - confidence, n - 1)))


def _fewest(enough: Callable[[int], bool]) -> int:
    """Smallest n >= 2 that is enough; being enough is monotone in n."""
    top = 2
    while not enough(top):
        if top >= MOST_SEEDS:
            raise UserError(
                f"this needs more than {MOST_SEEDS:,} seeds: ask for a wider interval or a "
                "larger effect."
            )
        top = min(top * 2, MOST_SEEDS)
    bottom = max(2, top // 2)
    while bottom < top:
        middle = (bottom + top) // 2
        bottom, top = (bottom, middle) if enough(middle) else (middle + 1, top)
    return top


def _check(n: int, sd: float, **shares: float) -> None:
    if n < 2:
        raise UserError(f"n={n}: a spread needs at least 2 pairs.")
    if not 0 < sd < math.inf:
        raise UserError(f"sd={sd:g}: the spread of the log ratios must be above 0.")
    for name, value in shares.items():
        if not 0 < value < 1:
            raise UserError(f"{name}={value:g} must be between 0 and 1.")
