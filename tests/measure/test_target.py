"""Targets: crossings of known curves, and proposals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from wg.errors import UserError
from wg.measure.target import Point, Target, crossing, propose_target, value_at


def target(**conditions: float) -> Target:
    found = Target.from_mapping({"name": "t", "conditions": conditions})
    assert found is not None
    return found


def curve(values: list[float | None], metric: str = "log_mel_l1", step: float = 10) -> list[Point]:
    return [(step * i, {metric: v}) for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "metric", "threshold", "expected"),
    [
        ([3, 2, 1, 0.5], "log_mel_l1", 1.5, 15.0),  # half-way
        ([3, 2, 1, 0.5], "log_mel_l1", 2.0, 10.0),  # on a point
        ([3, 2, 1, 0.5], "log_mel_l1", 0.5, 30.0),  # only the last point
        ([3, 2, 1, 0.5], "log_mel_l1", 0.4, math.inf),
        ([3, 2, 1, 0.5], "log_mel_l1", 9.0, 0.0),  # met at once
        ([3, 1, 3, 1], "log_mel_l1", 2.0, 25.0),  # the first dip was luck
        ([3, 1, 1, 3], "log_mel_l1", 2.0, math.inf),  # not met at the end
        ([1, 2, 3], "pesq_wb", 2.5, 15.0),  # higher is better
        ([1, 2, 3], "pesq_wb", 3.1, math.inf),
        ([-8, -4, 0], "level_db", 2.0, 15.0),  # from below
        ([8, 4, -1], "level_db", 2.0, 14.0),  # from above: 4 to -1, past 2 after 2/5
        ([None, None, 1], "log_mel_l1", 2.0, 20.0),  # nothing to draw the line from
        ([3, 1, None, 1], "log_mel_l1", 2.0, 30.0),  # a missing score is not met
        ([3, 1, 1, None], "log_mel_l1", 2.0, math.inf),
        ([3, 1, 1, float("nan")], "log_mel_l1", 2.0, math.inf),
        ([], "log_mel_l1", 2.0, math.inf),
    ],
)
def test_crossing(
    values: list[float | None], metric: str, threshold: float, expected: float
) -> None:
    assert crossing(curve(values, metric), target(**{metric: threshold})) == pytest.approx(expected)


def test_all_conditions_the_latest_decides() -> None:
    points: list[Point] = [
        (0.0, {"log_mel_l1": 3.0, "pesq_wb": 1.0}),
        (10.0, {"log_mel_l1": 1.0, "pesq_wb": 1.5}),
        (20.0, {"log_mel_l1": 0.5, "pesq_wb": 2.5}),
    ]
    assert crossing(points, target(log_mel_l1=2.0)) == 5.0
    assert crossing(points, target(pesq_wb=2.0)) == 15.0
    assert crossing(points, target(log_mel_l1=2.0, pesq_wb=2.0)) == 15.0
    assert crossing(points, target(log_mel_l1=2.0, pesq_wb=9.0)) == math.inf


def test_crossing_properties() -> None:
    """For random falling curves: on the curve, monotone in the threshold, scaled by the axis."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        values = 4 - np.cumsum(rng.uniform(0.01, 1, 7))
        points = curve([float(v) for v in values])
        easy, hard = sorted(rng.uniform(values[-1], values[0], 2))[::-1]
        t_easy, t_hard = (crossing(points, target(log_mel_l1=float(v))) for v in (easy, hard))
        assert t_easy <= t_hard
        assert value_at(points, "log_mel_l1", t_hard) == pytest.approx(hard)
        doubled = [(2 * x, m) for x, m in points]
        assert crossing(doubled, target(log_mel_l1=float(hard))) == pytest.approx(2 * t_hard)


@pytest.mark.parametrize("given", [None, {}, {"name": "none", "conditions": {}}])
def test_no_target(given: dict[str, Any] | None) -> None:
    assert Target.from_mapping(given) is None


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"log_mel": 1.0}, "log_mel_l1"),
        ({"log_mel_l1": "low"}, "must be a number"),
        ({"log_mel_l1": True}, "must be a number"),
        ({"log_mel_l1": float("nan")}, "must be a number"),
        ([1.0], "mapping"),
    ],
)
def test_wrong_targets(conditions: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Target.from_mapping({"name": "t", "conditions": conditions})


def test_round_trip_keeps_every_key() -> None:
    given = {
        "name": "demo-v1",
        "conditions": {"nats_per_sample": -2.9, "pesq_wb": 1.4},
        "how": "median of 5 seeds",
        "commit": "abc",
    }
    found = Target.from_mapping(given)
    assert found is not None
    assert found.to_dict() == given
    assert found.words() == "nats_per_sample ≤ -2.9 nats/sample and pesq_wb ≥ 1.4 MOS-LQO"


def test_propose_is_the_median_at_a_moment() -> None:
    """A point every 10 s; at 25 s half-way between two."""
    curves = {s: curve([4, 3, 2, 1 + 0.1 * s, 0.5]) for s in range(5)}
    found = propose_target(curves, ["log_mel_l1"], 30, "demo-v1", "how")
    assert found == {"name": "demo-v1", "conditions": {"log_mel_l1": 1.2}, "how": "how"}
    for at, value in ((25, 1.6), (40, 0.5)):
        assert propose_target(curves, ["log_mel_l1"], at, "x", "")["conditions"] == {
            "log_mel_l1": value
        }
    assert Target.from_mapping(found) is not None


@pytest.mark.parametrize(
    ("curves", "metric", "at", "words"),
    [
        ({}, "log_mel_l1", 5, "at least one"),
        ({0: curve([2, 1])}, "pesk", 5, "pesq_wb"),
        ({0: curve([2, 1])}, "pesq_wb", 5, "seed 0 has no pesq_wb"),
        ({0: curve([2, 1])}, "log_mel_l1", 12, "seed 0 ended after 10 s of audio, before the 12 s"),
        ({0: []}, "log_mel_l1", 5, "seed 0 ended after 0 s"),
    ],
)
def test_proposals_that_cannot_be(
    curves: dict[int, list[Point]], metric: str, at: float, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        propose_target(curves, [metric], at, "t", "")
