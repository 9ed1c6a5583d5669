"""Seeds for a width and for a power: closed forms, a textbook's numbers, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from wg.errors import UserError
from wg.measure.power import (
    _power_by_integration,
    half_width,
    power,
    sd_upper,
    seeds_for_power,
    seeds_for_width,
)
from wg.measure.significance import t_p


@pytest.mark.parametrize(("n", "assurance"), [(3, 0.5), (6, 0.8)])
def test_width_by_simulation(n: int, assurance: float) -> None:
    x = np.random.default_rng(0).normal(0, 0.2, (20_000, n))
    t = {3: 4.302653, 6: 2.570582}[n]
    widths = t * x.std(axis=1, ddof=1) / math.sqrt(n)
    kept = float(np.mean(widths <= half_width(n, 0.2, 0.95, assurance)))
    assert kept == pytest.approx(assurance, abs=0.012)  # three standard errors


def test_seeds_for_width_is_the_first_that_is_enough() -> None:
    for wanted in (0.05, 0.1, 0.3, 1.0):
        n = seeds_for_width(wanted, 0.15)
        assert half_width(n, 0.15) <= wanted
        assert n == 2 or half_width(n - 1, 0.15) > wanted
    assert seeds_for_width(0.1, 0.15, comparisons=4) > seeds_for_width(0.1, 0.15)
    assert seeds_for_width(0.3, 0.15) == 4  # the normal approximation says 0.96
    # At large n the normal approximation is right.
    assert seeds_for_width(0.01, 0.2) == pytest.approx((1.959964 * 0.2 / 0.01) ** 2, abs=3)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_power_by_simulation(n: int) -> None:
    effect = math.log(1.2)
    x = np.random.default_rng(n).normal(effect, 0.15, (20_000, n))
    assert power(n, effect, 0.15) == pytest.approx(np.mean(t_p(x) <= 0.05), abs=0.011)
    many = power(n, effect, 0.15, comparisons=4)
    assert many == pytest.approx(np.mean(t_p(x) <= 0.0125), abs=0.011)


def test_power_of_nothing_is_alpha_and_grows() -> None:
    assert power(5, 0.0, 0.3, 0.05) == pytest.approx(0.05)
    values = [power(n, 0.1, 0.15) for n in range(2, 30)]
    assert values == sorted(values)
    assert power(3, 5.0, 0.1) == pytest.approx(1.0)


def test_integration_agrees_with_the_noncentral_t() -> None:
    for n, effect in ((3, 0.2), (6, 0.1)):
        critical = {3: 2.919986, 6: 2.015048}[n]
        assert _power_by_integration(n, effect, 0.15, critical) == pytest.approx(
            power(n, effect, 0.15), abs=1e-4
        )


def test_seeds_for_power() -> None:
    """One-sided, an effect of half a standard deviation, alpha 0.05, power 0.8: 27 pairs."""
    assert seeds_for_power(0.5, 1.0) == 27
    n = seeds_for_power(math.log(1.1), 0.15, 0.9)
    assert power(n, math.log(1.1), 0.15) >= 0.9 > power(n - 1, math.log(1.1), 0.15)
    large = ((norm.ppf(0.95) + norm.ppf(0.8)) / 0.03) ** 2
    assert seeds_for_power(0.03, 1.0, wanted=0.8, alpha=0.05) == pytest.approx(large, rel=0.01)


def test_upper_limit_of_a_pilots_spread() -> None:
    """n = 3: (n - 1) / chi-squared quantile = 2 / (-2 ln 0.8), in closed form."""
    assert sd_upper(0.1, 3) == pytest.approx(0.1 * math.sqrt(-1 / math.log(0.8)))
    x = np.random.default_rng(1).normal(0, 1, (20_000, 4))
    held = np.mean([sd_upper(s, 4) >= 1.0 for s in x.std(axis=1, ddof=1)[:4000]])
    assert held == pytest.approx(0.8, abs=0.02)


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="at least 2"):
        half_width(1, 0.1)
    with pytest.raises(UserError, match="sd=0"):
        seeds_for_width(0.1, 0.0)
    with pytest.raises(UserError, match="half width"):
        seeds_for_width(0.0, 0.1)
    with pytest.raises(UserError, match=r"10,000"):
        seeds_for_width(1e-4, 1.0)
    with pytest.raises(UserError, match="speed-up above 1"):
        seeds_for_power(0.0, 0.1)
    with pytest.raises(UserError, match=r"power=1\.2"):
        seeds_for_power(0.1, 0.1, wanted=1.2)
