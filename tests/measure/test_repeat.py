"""Does a repetition agree? By hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from wg.measure.repeat import repeated


def test_by_hand() -> None:
    """Logs 0, 1, 2 and 1 + ln 2: variance 1 of 2 degrees of freedom, t 4.303."""
    found = repeated([1.0, math.e, math.e**2], [2 * math.e])
    assert found.ratio == pytest.approx(2)
    half = 4.302653 * math.sqrt(1 / 3 + 1)
    assert found.high == pytest.approx(math.exp(half), rel=1e-5)
    assert found.low == pytest.approx(math.exp(-half), rel=1e-5)
    assert found.agrees
    assert (found.n, found.m) == (3, 1)


def test_it_is_students_two_sample_test() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = np.exp(rng.normal(0, 1, 4)), np.exp(rng.normal(1, 1, 3))
        p = ttest_ind(np.log(a), np.log(b)).pvalue
        assert repeated(a.tolist(), b.tolist()).agrees == (p >= 0.05)


@pytest.mark.parametrize(("n", "m"), [(3, 1), (3, 3), (5, 2)])
def test_honest_repetitions_agree_in_95_of_100(n: int, m: int) -> None:
    rng = np.random.default_rng(n * 10 + m)
    draws = 4000
    agreed = sum(
        bool(repeated(np.exp(rng.normal(3, 0.2, n)).tolist(),
                      np.exp(rng.normal(3, 0.2, m)).tolist()).agrees)
        for _ in range(draws)
    )  # fmt: skip
    assert 0.94 < agreed / draws < 0.96


def test_one_seed_against_one_says_nothing() -> None:
    found = repeated([2.0], [3.0])
    assert found.ratio == pytest.approx(1.5)
    assert found.low is found.high is found.agrees is None


def test_the_same_numbers_agree() -> None:
    assert repeated([7.0, 7.0], [7.0]).agrees
    assert not repeated([7.0, 7.0], [7.1]).agrees
