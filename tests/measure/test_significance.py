"""Sign flips and t against scipy and by hand; bounds stay on the safe side; Holm's own example."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_1samp

from wg.errors import UserError
from wg.measure.significance import good_enough, holm, sign_flip_p, smallest_p, sooner, t_p

INF = math.inf
SPENT = dict.fromkeys(range(20), 100.0)


def test_sign_flip_by_hand() -> None:
    """1, 2, 3: of the 8 signings only +++ sums to 6 or more; of -1, 2, 3 also those of sum 4."""
    assert sign_flip_p(np.array([1.0, 2, 3])) == smallest_p(3) == 0.125
    assert sign_flip_p(np.array([-1.0, 2, 3])) == 0.25
    assert sign_flip_p(np.array([-1.0, -2, -3])) == 1.0
    assert sign_flip_p(np.array([[1.0, 2, 3], [-1.0, 2, 3]])).tolist() == [0.125, 0.25]


def test_sign_flip_is_scipys_paired_permutation_test() -> None:
    rng = np.random.default_rng(0)
    for n in (4, 7):
        x = rng.normal(0.3, 1, n)
        theirs = permutation_test(
            (x,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
        )
        assert sign_flip_p(x) == pytest.approx(theirs.pvalue)


def test_sums_that_are_equal_but_for_rounding_count() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floating point; half of the signings of 0.1, 0.2, -0.3 that sum
    to exactly 0 must count: by hand 5 of 8 are at least 0."""
    assert sign_flip_p(np.array([0.1, 0.2, -0.3])) == 5 / 8


def test_many_values_are_drawn_with_a_fixed_seed() -> None:
    x = np.random.default_rng(1).normal(0.4, 1, 18)
    p = float(sign_flip_p(x))
    assert p == float(sign_flip_p(x))
    assert p == pytest.approx(float(t_p(x)), abs=0.02)
    assert sign_flip_p(np.ones(18)) == pytest.approx(1 / 100_000, abs=3e-5)
    assert sign_flip_p(np.ones(18)) > 0


def test_t_is_scipys() -> None:
    x = np.random.default_rng(2).normal(0.3, 1, (3, 6))
    assert t_p(x) == pytest.approx(ttest_1samp(x, 0, axis=1, alternative="greater").pvalue)
    assert t_p(np.array([0.5])) == 1.0
    assert t_p(np.full(4, 0.7)) == 1.0


def test_sooner_with_all_runs_there() -> None:
    base, arm = {0: 40.0, 1: 20.0, 2: 40.0, 9: 1.0}, {0: 20.0, 1: 10.0, 2: 10.0, 7: 1.0}
    found = sooner(base, arm, SPENT, SPENT)
    theirs = ttest_1samp(np.log([2, 2, 4]), 0, alternative="greater").pvalue
    assert found.t == pytest.approx(theirs)
    assert (found.sign_flip, found.floor, found.n, found.at_most) == (0.125, 0.125, 3, False)


def test_bounds_only_ever_raise_p() -> None:
    """Whatever the runs that missed would have needed, the p given is no smaller than theirs."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        true_base = rng.lognormal(4.4, 0.5, 6)
        true_arm = rng.lognormal(4.2, 0.5, 6)
        cut = dict.fromkeys(range(6), 100.0)
        base, arm = (
            {s: float(t) if t <= 100 else INF for s, t in enumerate(x)}
            for x in (true_base, true_arm)
        )
        found = sooner(base, arm, cut, cut)
        true_p = float(sign_flip_p(np.log(true_base / true_arm)))
        assert found.sign_flip >= true_p - 1e-12
        if all(map(math.isfinite, [*base.values(), *arm.values()])):
            assert found.sign_flip == pytest.approx(true_p)


def test_pairs_known_from_above_or_not_at_all_count_as_lost() -> None:
    base = dict.fromkeys(range(5), 40.0)
    arm = {s: 10.0 + s for s in range(5)}
    assert sooner(base, arm, SPENT, SPENT).sign_flip == 1 / 32
    for lost_arm, spent in (({**arm, 0: INF}, SPENT), ({**arm, 0: INF}, {**SPENT, 0: INF})):
        found = sooner(base, lost_arm, SPENT, spent)
        assert found.sign_flip == pytest.approx(0.5 + 1 / 32)  # the lost pair's flip, then luck
        assert (found.t, found.at_most) == (1.0, True)
    favourable = sooner({**base, 0: INF}, arm, SPENT, SPENT)
    assert (favourable.sign_flip, favourable.at_most) == (1 / 32, True)
    assert favourable.t < 0.05
    diverged = sooner({**base, 0: INF}, arm, {**SPENT, 0: INF}, SPENT)
    assert diverged.sign_flip > 0.5


def test_good_enough() -> None:
    lower = good_enough([-2.4, -2.5, -2.7, -2.6, -2.45], -2.269, "lower")
    assert lower.sign_flip == smallest_p(5)
    assert lower.t == pytest.approx(
        ttest_1samp([-2.4, -2.5, -2.7, -2.6, -2.45], -2.269, alternative="less").pvalue
    )
    higher = good_enough([3.0, 3.2, 2.9], 3.5, "higher")
    assert higher.t > 0.9
    inside = good_enough([0.1, -0.1, 0.05, 0.0], 0.5, "zero")
    outside = good_enough([0.6, 0.5, 0.55, 0.7], 0.5, "zero")
    assert inside.t < 0.01
    assert outside.t > 0.9


def test_holm_worked_example() -> None:
    """Four p-values 0.01, 0.04, 0.03, 0.005: times 3, 1, 2 and 4 in rank order, never falling."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert {k: v.adjusted for k, v in found.items()} == {
        "a": pytest.approx(0.03), "b": pytest.approx(0.06),
        "c": pytest.approx(0.06), "d": pytest.approx(0.02),
    }  # fmt: skip
    assert [k for k, v in found.items() if v.rejected] == ["a", "d"]
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({}) == {}
    assert holm({"one": 0.7})["one"].adjusted == 0.7
    assert holm({"x": 0.6, "y": 0.9})["x"].adjusted == 1.0


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="no seed"):
        sooner({0: 1.0}, {1: 1.0}, SPENT, SPENT)
    with pytest.raises(UserError, match="finite"):
        good_enough([1.0, math.nan], 2.0, "lower")
    with pytest.raises(UserError, match="'a'"):
        holm({"a": 1.2})
