"""Kaplan-Meier against scipy and worked examples; bands that are exact; restricted means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import CensoredData, binomtest, ecdf

from wg.errors import UserError
from wg.measure.survival import (
    Survival,
    kaplan_meier,
    restricted_mean_ratio,
    restricted_mean_time,
    shared_tau,
)

INF = math.inf
# Runs that reached the target at 3, 5, 5 and 9, and two that missed, cut off at 5 and 12.
TIMES = {0: 3.0, 1: 5.0, 2: 5.0, 3: INF, 4: 9.0, 5: INF}
SPENT = {3: 5.0, 5: 12.0}


def _random(rng: np.random.Generator) -> tuple[dict[int, float], dict[int, float]]:
    n = int(rng.integers(1, 12))
    times = rng.integers(1, 9, n).astype(float)  # whole numbers, for ties
    cut = rng.integers(1, 9, n).astype(float)
    miss = rng.random(n) < 0.4
    given = {i: INF if miss[i] else float(times[i]) for i in range(n)}
    return given, dict(enumerate(cut.tolist()))


def test_worked_example() -> None:
    """By hand: S = 5/6, then times 3/5 (the run cut at 5 is still at risk), then times 1/2."""
    curve = kaplan_meier(TIMES, SPENT)
    assert [(s.time, s.at_risk, s.events) for s in curve.steps] == [
        (0.0, 6, 0), (3.0, 6, 1), (5.0, 5, 2), (9.0, 2, 1)
    ]  # fmt: skip
    assert [s.reached for s in curve.steps] == pytest.approx([0, 1 / 6, 1 / 2, 3 / 4])
    assert (curve.censored, curve.n, curve.horizon) == ((5.0, 12.0), 6, 12.0)
    assert curve.median == 5.0
    assert curve.share_at(4.9) == pytest.approx(1 / 6)
    assert curve.share_at(5.0) == pytest.approx(1 / 2)
    assert math.isnan(curve.share_at(12.1))


@pytest.mark.filterwarnings("ignore:The confidence interval is undefined")
def test_steps_and_log_log_bands_are_scipys() -> None:
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(60):
        times, spent = _random(rng)
        curve = kaplan_meier(times, spent, 0.9, "log-log")
        done = [t for t in times.values() if math.isfinite(t)]
        cut = [spent[s] for s, t in times.items() if math.isinf(t)]
        theirs = ecdf(CensoredData(uncensored=done, right=cut)).sf
        with np.errstate(all="ignore"):
            band = theirs.confidence_interval(0.9, method="log-log")
        for step in curve.steps:
            assert 1 - step.reached == pytest.approx(float(theirs.evaluate(step.time)))
            if step.low is None or step.high is None:
                continue
            assert step.low == pytest.approx(1 - float(band.high.evaluate(step.time)))
            assert step.high == pytest.approx(1 - float(band.low.evaluate(step.time)))
            compared += 1
    assert compared > 50


def test_beta_band_is_clopper_and_pearsons_without_censoring() -> None:
    curve = kaplan_meier(dict(enumerate([4.0, 1.0, 2.0, 2.0, 8.0])), {})
    for step in curve.steps:
        exact = binomtest(round(step.reached * 5), 5).proportion_ci(0.95, "exact")
        assert (step.low, step.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    three = kaplan_meier({0: 1.0, 1: 2.0, 2: 3.0}, {}).steps[-1]
    assert (three.low, three.high) == (pytest.approx(0.025 ** (1 / 3)), 1.0)


def test_beta_band_of_censored_runs_holds_the_share() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        for step in kaplan_meier(*_random(rng)).steps:
            assert step.low is not None
            assert step.high is not None
            assert 0 <= step.low <= step.reached + 1e-12
            assert step.reached <= step.high + 1e-12 <= 1 + 2e-12


def test_median_not_reached_and_runs_that_diverged() -> None:
    curve = kaplan_meier({0: 4.0, 1: INF, 2: INF}, {1: 10.0, 2: INF})
    assert math.isinf(curve.median)
    assert curve.median_words() == "not reached"
    assert kaplan_meier({0: 4.0}, {}).median_words() == "4 s"
    # Cut off at its divergence (2.0) the lost run would leave 1 of 1 at risk: a share of 1.
    lost = kaplan_meier({0: 4.0, 1: INF}, {1: INF})
    assert lost.steps[-1].reached == pytest.approx(0.5)
    assert math.isinf(lost.horizon)
    assert kaplan_meier({0: 4.0, 1: INF}, {1: 2.0}).steps[-1].reached == 1.0


def test_restricted_mean_is_the_plain_mean_of_cut_times_without_early_censoring() -> None:
    times = {0: 3.0, 1: 5.0, 2: 7.0, 3: INF}
    found = restricted_mean_time(kaplan_meier(times, {3: 8.0}), 6.0)
    cut = np.array([3.0, 5.0, 6.0, 6.0])
    assert found.seconds == pytest.approx(cut.mean())
    assert found.standard_error == pytest.approx(cut.std(ddof=1) / 2)


def test_restricted_mean_of_censored_runs_by_hand() -> None:
    """S is 1 to 3, 5/6 to 5, 1/2 to 9, 1/4 to 12; areas after the events: 53/12, 11/4, 3/4."""
    found = restricted_mean_time(kaplan_meier(TIMES, SPENT), 12.0)
    assert found.seconds == pytest.approx(3 + 2 * 5 / 6 + 4 / 2 + 3 / 4)
    variance = (53 / 12) ** 2 / 30 + (11 / 4) ** 2 * 2 / 15 + (3 / 4) ** 2 / 2
    assert found.standard_error == pytest.approx(math.sqrt(variance * 6 / 5))


def test_ratio_of_restricted_means() -> None:
    a = kaplan_meier({0: 10.0, 1: 12.0, 2: 14.0}, {})
    b = kaplan_meier({0: 20.0, 1: 24.0, 2: 28.0}, {})
    found = restricted_mean_ratio(b, a)
    assert found.tau == 28.0
    assert found.ratio == pytest.approx(2.0)
    # Both have a relative standard error of 2 / sqrt(3) / 12 and 2 degrees of freedom: Welch's 4.
    half = 2.7764451051977987 * math.sqrt(2) * 2 / math.sqrt(3) / 12
    assert found.low == pytest.approx(2 * math.exp(-half))
    assert found.high == pytest.approx(2 * math.exp(half))
    missing = kaplan_meier({0: 20.0, 1: INF, 2: INF}, {1: 25.0, 2: 27.0})
    assert restricted_mean_ratio(missing, a).tau == 27.0
    assert restricted_mean_ratio(kaplan_meier({0: 8.0}, {}), a).low is None


def test_tau_is_the_shortest_horizon() -> None:
    arms: dict[str, Survival] = {
        "done": kaplan_meier({0: 4.0, 1: 50.0}, {}),
        "cut": kaplan_meier({0: 4.0, 1: INF}, {1: 30.0}),
    }
    assert shared_tau(arms) == 30.0
    assert shared_tau({"done": arms["done"]}) == 50.0


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="at least one run"):
        kaplan_meier({}, {})
    with pytest.raises(UserError, match="seed 1 missed"):
        kaplan_meier({1: INF}, {})
    with pytest.raises(UserError, match="0 or more"):
        kaplan_meier({1: -1.0}, {})
    curve = kaplan_meier(TIMES, SPENT)
    with pytest.raises(UserError, match="beyond the 12"):
        restricted_mean_time(curve, 13.0)
    with pytest.raises(UserError, match="finite tau"):
        restricted_mean_time(curve, INF)
    with pytest.raises(UserError, match="time 0"):
        restricted_mean_ratio(curve, kaplan_meier({0: 0.0}, {}))
