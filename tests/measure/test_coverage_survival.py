"""Survival bands and restricted means: their truth by integration, and that they hold it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from wg.measure.coverage_survival import (
    BUDGETS,
    _censored,
    censored_coverage,
    restricted_lognormal_mean,
    survival_coverage,
)


@pytest.mark.parametrize(("m", "sd", "tau"), [(0.0, 0.15, 1.2), (-1.0, 0.7, 0.5), (2.0, 0.35, 3.0)])
def test_restricted_mean_of_a_lognormal(m: float, sd: float, tau: float) -> None:
    """The area over its distribution function up to tau."""
    area, _ = quad(lambda t: norm.sf((math.log(t) - m) / sd) if t > 0 else 1.0, 0, tau)
    assert restricted_lognormal_mean(m, sd, tau) == pytest.approx(area, rel=1e-6)


def test_restricted_mean_without_a_limit_is_the_mean() -> None:
    assert restricted_lognormal_mean(0.5, 0.4, 1e6) == pytest.approx(math.exp(0.5 + 0.08))


def test_restricted_mean_and_survival_bands_hold() -> None:
    for r in survival_coverage(200, 7):
        assert r["coverage"] >= 0.89
        if r["interval"] == "Kaplan-Meier, beta":
            assert r["without_interval"] == 0


def test_the_ratio_covers_with_runs_censored_at_the_budget() -> None:
    rows = censored_coverage(100, 7)
    for r in rows:
        assert r["coverage"] >= 0.86  # four standard errors below
        assert 0 <= r["shown"] <= 1
    # The page shows the ratio where a run misses: of 3 baselines that miss with 3 in 10, in
    # 1 - 0.7^3 of studies, as the arm is too fast to miss.
    one = next(r for r in rows if r["scenario"] == BUDGETS[1].words and r["n"] == 3)
    assert one["shown"] == pytest.approx(1 - 0.7**3, abs=0.15)  # three standard errors


def test_who_is_shown_and_who_has_no_interval() -> None:
    tau = 10.0
    assert _censored(np.array([[20.0, 20, 20], [20, 20, 20]]), tau, 1.0) == (False, None)
    assert _censored(np.array([[5.0, 6, 7], [1, 2, 3]]), tau, 3.0) == (False, True)
    assert _censored(np.array([[5.0, 6, 70], [1, 2, 3]]), tau, 3.5) == (True, True)
