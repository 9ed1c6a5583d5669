"""Speed-ups: hand-computed factors, misses as bounds, and the interval's coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wg.measure.ratio import log_error
from wg.measure.stats import restricted_mean, speed_up, t_interval, widened

INF = math.inf
SPENT = dict.fromkeys(range(9), 100.0)


def test_geometric_mean_and_t_interval() -> None:
    """Factors 2, 2, 4: mean log = (4/3) ln 2, s = ln 2 / sqrt(3), t(0.975, 2) = 4.302653."""
    s = speed_up({0: 40, 1: 20, 2: 40}, {0: 20, 1: 10, 2: 10}, SPENT, SPENT)
    assert s.pairs == {0: 2.0, 1: 2.0, 2: 4.0}
    assert s.estimate == pytest.approx(2 ** (4 / 3))
    half = 4.302652729911275 * math.log(2) / math.sqrt(3) / math.sqrt(3)
    assert s.low == pytest.approx(2 ** (4 / 3) * math.exp(-half))
    assert s.high == pytest.approx(2 ** (4 / 3) * math.exp(half))
    assert (s.interval, s.bound, s.n) == ("95% t-interval", "exact", 3)


def test_two_pairs_have_a_range_and_one_has_nothing() -> None:
    two = speed_up({0: 40, 1: 20}, {0: 20, 1: 20}, SPENT, SPENT)
    assert (two.low, two.high) == (pytest.approx(1.0), pytest.approx(2.0))
    assert two.interval == "range of 2 pairs"
    assert two.estimate == pytest.approx(math.sqrt(2))
    one = speed_up({0: 40}, {0: 20}, SPENT, SPENT)
    assert (one.estimate, one.low, one.high, one.interval) == (2.0, None, None, "none")


def test_only_shared_seeds_count() -> None:
    s = speed_up({0: 40, 1: 1, 5: 7}, {0: 20, 2: 3}, SPENT, SPENT)
    assert (s.n, s.estimate) == (1, 2.0)
    assert speed_up({0: 1}, {1: 1}, SPENT, SPENT).bound == "unknown"


@pytest.mark.parametrize(
    ("baseline", "arm", "bound", "estimate"),
    [
        ({0: INF, 1: 40}, {0: 25, 1: 10}, "at least", 4.0),  # 100 / 25 and 40 / 10
        ({0: 25, 1: 40}, {0: INF, 1: 160}, "at most", 0.25),  # 25 / 100 and 40 / 160
        ({0: INF, 1: 40}, {0: 25, 1: INF}, "unknown", None),  # bounds of both directions
        ({0: INF, 1: 40}, {0: INF, 1: 10}, "unknown", None),  # a pair that missed twice
        ({0: INF}, {0: INF}, "unknown", None),
        ({0: 40, 1: 40}, {0: 0, 1: 10}, "unknown", None),  # met before any time was spent
    ],
)
def test_misses_are_bounds(
    baseline: dict[int, float], arm: dict[int, float], bound: str, estimate: float | None
) -> None:
    s = speed_up(baseline, arm, SPENT, SPENT)
    assert s.bound == bound
    assert (s.low, s.high) == (None, None)
    assert s.estimate == (None if estimate is None else pytest.approx(estimate))
    assert s.note


def test_a_miss_is_censored_at_its_own_spending() -> None:
    s = speed_up({0: INF}, {0: 10}, {0: 50}, {0: 999})
    assert s.bound == "at least"
    assert s.estimate == pytest.approx(5.0)


def test_many_comparisons_widen_the_interval() -> None:
    times = ({0: 40.0, 1: 20.0, 2: 40.0}, {0: 20.0, 1: 10.0, 2: 10.0}, SPENT, SPENT)
    one, three = speed_up(*times), speed_up(*times, comparisons=3)
    assert one.low is not None
    assert three.low is not None
    assert three.low < one.low
    assert three.estimate == one.estimate


def test_interval_covers_95_percent() -> None:
    """2,000 sweeps of 5 seeds: log factors around log 1.5 with a spread of 0.2."""
    rng = np.random.default_rng(0)
    hits = 0
    for logs in rng.normal(math.log(1.5), 0.2, (2000, 5)):
        low, high = t_interval(logs)
        hits += low <= math.log(1.5) <= high
    assert 0.935 <= hits / 2000 <= 0.965  # three standard errors are 0.015


def test_restricted_mean() -> None:
    whole = restricted_mean({0: 10, 1: 20}, SPENT)
    assert (whole.seconds, whole.reached, whole.missed) == (15.0, 2, 0)
    assert not whole.is_lower_bound
    cut = restricted_mean({0: 10, 1: INF}, {0: 70, 1: 50})
    assert (cut.seconds, cut.reached, cut.missed) == (30.0, 1, 1)
    assert cut.is_lower_bound


def test_an_error_that_all_seeds_share_widens_the_interval() -> None:
    found = speed_up({0: 4.0, 1: 9.0, 2: 6.0}, {0: 2.0, 1: 3.0, 2: 2.5}, {}, {})
    assert found.low is not None
    assert found.high is not None
    assert found.estimate is not None
    same = widened(found, 0.0, 9)
    assert (same.low, same.high) == pytest.approx((found.low, found.high))
    assert same.note == "3 pairs of runs, and 9 rounds"
    wide = widened(found, 0.1, 9)
    assert wide.estimate == found.estimate
    assert wide.high is not None
    assert wide.low is not None
    own, shared = math.log(found.high / found.estimate), 2.306 * 0.1  # t of 8 degrees of freedom
    assert math.log(wide.high / wide.estimate) == pytest.approx(math.hypot(own, shared), rel=1e-3)
    assert wide.high * wide.low == pytest.approx(found.high * found.low)
    assert widened(found, 0.1, 1) == found  # a single round tells nothing of its error
    missed = speed_up({0: math.inf}, {0: 2.0}, {0: 9.0}, {})
    assert widened(missed, 0.1, 9) == missed


def test_the_error_of_a_ratio_of_medians() -> None:
    rng = np.random.default_rng(0)
    medians = []
    for _ in range(4000):
        turns = np.exp(0.1 * rng.standard_normal((2, 25)))
        medians.append(math.log(float(np.median(turns[0] / turns[1]))))
    turns = np.exp(0.1 * rng.standard_normal((2, 2500)))
    expected = log_error(turns[0].tolist(), turns[1].tolist()) * 10  # of 25 in place of 2,500
    assert float(np.std(medians)) == pytest.approx(expected, rel=0.05)
    assert log_error([2.0], [1.0]) == 0.0
