"""Bootstrap intervals against scipy and brute force; what small n cannot bear; bounds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from wg.errors import UserError
from wg.measure.bootstrap import Method, bootstrap_speed_up, interval_limits, resamples
from wg.measure.stats import speed_up, t_interval

INF = math.inf
SPENT = dict.fromkeys(range(9), 100.0)
VALUES = np.array([0.31, 0.18, 0.44, 0.29, 0.75])


def test_resamples_are_all_n_to_the_n() -> None:
    for n in (2, 3, 4):
        counts, weights = resamples(n)
        ordered = list(itertools.product(range(n), repeat=n))
        brute: dict[tuple[int, ...], int] = {}
        for r in ordered:
            key = tuple(r.count(i) for i in range(n))
            brute[key] = brute.get(key, 0) + 1
        mine = {tuple(int(c) for c in row): w for row, w in zip(counts, weights, strict=True)}
        assert mine == {k: pytest.approx(v / len(ordered)) for k, v in brute.items()}
    assert len(resamples(10)[0]) == math.comb(19, 10)
    assert np.array_equal(resamples(12)[0], resamples(12)[0])
    assert resamples(12)[0].sum(axis=1).tolist() == [12.0] * len(resamples(12)[0])


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_percentile_and_studentised_by_brute_force(level: float) -> None:
    """All 3,125 ordered resamples of five values, one by one."""
    n, mean, se = 5, VALUES.mean(), VALUES.std(ddof=1) / math.sqrt(5)
    means, ratios = [], []
    for r in itertools.product(VALUES, repeat=n):
        x = np.array(r)
        means.append(x.mean())
        s = x.std(ddof=1)
        ratios.append(
            (x.mean() - mean) / (s / math.sqrt(n))
            if s > 1e-9
            else math.copysign(INF, x.mean() - mean)
        )

    def quantile(found: list[float], q: float) -> float:
        return float(np.sort(found)[math.ceil(q * len(found) - 1e-9) - 1])

    tail = (1 - level) / 2
    low, high = interval_limits(VALUES, level, "percentile")
    assert low == pytest.approx(quantile(means, tail))
    assert high == pytest.approx(quantile(means, 1 - tail))
    low, high = interval_limits(VALUES, level, "studentised")
    assert low == pytest.approx(mean - se * quantile(ratios, 1 - tail))
    assert high == pytest.approx(mean - se * quantile(ratios, tail))


def test_bca_is_scipys() -> None:
    x = np.array([0.1, 0.3, 0.2, 1.4, 0.6, 0.5, 0.45, 0.9])
    rng = np.random.default_rng(0)
    theirs = scipy_bootstrap(
        (x,), np.mean, n_resamples=50_000, method="BCa", rng=rng
    ).confidence_interval
    assert interval_limits(x, 0.95, "bca") == pytest.approx([theirs.low, theirs.high], abs=0.01)


def test_t_is_the_one_of_stats() -> None:
    assert interval_limits(VALUES, 0.9, "t") == pytest.approx(t_interval(VALUES, 0.9))


@pytest.mark.parametrize("method", ["t", "studentised", "bca", "percentile"])
def test_many_rows_are_each_their_own_and_move_with_the_values(method: Method) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 3, 5))
    together = interval_limits(x, 0.9, method)
    assert together.shape == (2, 3, 2)
    assert together[1, 2] == pytest.approx(interval_limits(x[1, 2], 0.9, method))
    assert interval_limits(10 - 3 * x, 0.9, method) == pytest.approx(10 - 3 * together[..., ::-1])


def test_equal_values_have_their_own_interval() -> None:
    for method in ("t", "studentised", "bca", "percentile"):
        assert interval_limits(np.full(4, 0.7), method=method).tolist() == [0.7, 0.7]


def test_percentile_kinds_cannot_leave_the_range_and_three_values_have_no_studentised_one() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 3))
    for method in ("percentile", "bca"):
        low, high = interval_limits(x, 0.999, method).T
        assert (low >= x.min(axis=1) - 1e-12).all()
        assert (high <= x.max(axis=1) + 1e-12).all()
    assert np.isinf(interval_limits(x, 0.95, "studentised")).all()
    assert np.isfinite(interval_limits(rng.normal(size=(500, 4)), 0.95, "studentised")).all()


def test_speed_up_is_that_of_stats_with_another_interval() -> None:
    base = {0: 40.0, 1: 22.0, 2: 41.0, 3: 50.0, 4: 33.0}
    arm = {0: 20.0, 1: 10.0, 2: 11.0, 3: 30.0, 4: 15.0}
    found, known = (f(base, arm, SPENT, SPENT) for f in (bootstrap_speed_up, speed_up))
    assert (found.estimate, found.pairs, found.n) == (known.estimate, known.pairs, 5)
    logs = np.log([known.pairs[s] for s in range(5)])
    low, high = interval_limits(logs)
    assert (found.low, found.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))
    assert (found.resamples, found.exact) == (126, True)
    wider = bootstrap_speed_up(base, arm, SPENT, SPENT, comparisons=4)
    assert wider.level == pytest.approx(0.9875)
    assert found.low is not None
    assert wider.low is not None
    assert wider.low < found.low


def test_three_pairs_have_no_bootstrap_and_say_so() -> None:
    found = bootstrap_speed_up({0: 4, 1: 5, 2: 6}, {0: 1, 1: 2, 2: 3}, SPENT, SPENT)
    assert (found.low, found.high) == (None, None)
    assert "no spread" in found.note
    two = bootstrap_speed_up({0: 4, 1: 5}, {0: 1, 1: 2}, SPENT, SPENT)
    assert (two.low, two.resamples) == (None, 0)


def test_bounds_give_one_limit() -> None:
    seeds = range(5)
    slow = {s: 40.0 + 3 * s for s in seeds}
    fast = {s: 10.0 + s * s for s in seeds}
    some = {**slow, 2: INF}
    up = bootstrap_speed_up(some, fast, SPENT, SPENT)
    assert (up.bound, up.high) == ("at least", None)
    exact = bootstrap_speed_up({**slow, 2: 100.0}, fast, SPENT, SPENT)
    assert up.low == exact.low
    assert up.low is not None
    down = bootstrap_speed_up(fast, some, SPENT, SPENT)
    assert (down.bound, down.low) == ("at most", None)
    assert down.high == pytest.approx(1 / up.low)
    both = bootstrap_speed_up({**slow, 0: INF}, {**fast, 1: INF}, SPENT, SPENT)
    assert (both.bound, both.estimate, both.low) == ("unknown", None, None)
    lost = bootstrap_speed_up(slow, {**fast, 1: INF}, SPENT, {**SPENT, 1: INF})
    assert (lost.bound, lost.estimate) == ("unknown", None)
    assert "diverged in 1 of 5" in lost.note


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="at least 2"):
        interval_limits(np.array([1.0]))
    with pytest.raises(UserError, match="between 0 and 1"):
        interval_limits(VALUES, 95)
    with pytest.raises(UserError, match="known: t, studentised"):
        interval_limits(VALUES, method="bootstrap")  # type: ignore[arg-type]
