"""Performance profiles of a worked example, and their areas."""

from __future__ import annotations

import math

import pytest

from wg.errors import UserError
from wg.measure.profile import area, performance_profiles

INF = math.inf
TIMES = {
    "a": {"p": 10.0, "q": 20.0, "r": INF, "s": INF},
    "b": {"p": 20.0, "q": 20.0, "r": 5.0, "s": INF},
}


def test_worked_example() -> None:
    found = performance_profiles(TIMES)
    assert found["a"].ratios == {"p": 1.0, "q": 1.0, "r": INF, "s": INF}
    assert found["b"].ratios == {"p": 2.0, "q": 1.0, "r": 1.0, "s": INF}
    assert found["a"].steps == ((1.0, 0.5),)
    assert found["b"].steps == ((1.0, 0.5), (2.0, 0.75))
    assert [found["b"].share_within(r) for r in (0.9, 1, 1.99, 2, 100, INF)] == [
        0.0, 0.5, 0.5, 0.75, 0.75, 0.75
    ]  # fmt: skip


def test_area_by_hand_and_by_its_steps() -> None:
    b = performance_profiles(TIMES)["b"]
    # From 1 to 2 the share is 1/2, from 2 to 4 it is 3/4.
    assert area(b, 4, "linear") == pytest.approx((0.5 * 1 + 0.75 * 2) / 3)
    assert area(b, 4, "log") == pytest.approx((0.5 + 0.75) / 2)
    perfect = performance_profiles({"x": {"p": 3.0}, "y": {"p": INF}})
    for scale in ("linear", "log"):
        assert area(perfect["x"], 4, scale) == 1.0
        assert area(perfect["y"], 4, scale) == 0.0


def test_times_only_matter_as_ratios() -> None:
    scaled = {k: {p: 7 * t for p, t in row.items()} for k, row in TIMES.items()}
    assert performance_profiles(scaled) == performance_profiles(TIMES)


def test_an_arm_that_needed_nothing_is_infinitely_better() -> None:
    found = performance_profiles({"x": {"p": 0.0}, "y": {"p": 0.0}, "z": {"p": 1.0}})
    assert [found[k].ratios["p"] for k in "xyz"] == [1.0, 1.0, INF]


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="at least one arm"):
        performance_profiles({})
    with pytest.raises(UserError, match="'b' has no time for 'q'"):
        performance_profiles({"a": {"p": 1.0, "q": 2.0}, "b": {"p": 1.0}})
    with pytest.raises(UserError, match="'a' has a time of nan"):
        performance_profiles({"a": {"p": math.nan}})
    with pytest.raises(UserError, match="above 1"):
        area(performance_profiles(TIMES)["a"], 1.0)
