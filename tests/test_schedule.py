"""Schedules: pure functions of progress with the values that their names promise."""

from __future__ import annotations

from typing import Any

import pytest

from wg.errors import UserError
from wg.plan import Base
from wg.schedule import Constant, Schedule, WarmupDecay, staircase
from wg.strategies import make_plan


def test_staircase_changes_exactly_at_its_points() -> None:
    s = staircase([4, 8, 16], [0.25, 0.5])
    assert [s(p) for p in (0, 0.2499, 0.25, 0.49, 0.5, 1.0)] == [4, 4, 8, 8, 16, 16]
    equal = staircase([1, 2, 3])
    assert [equal(p) for p in (0.33, 0.34, 0.66, 0.67)] == [1, 2, 2, 3]
    assert staircase([7]) == Constant(7)
    assert s.describe() == "4 until 25%, 8 until 50%, then 16"


@pytest.mark.parametrize("until", [[0.5], [0.5, 0.4], [0.0, 0.5], [0.5, 1.0]])
def test_impossible_staircases_are_refused(until: list[float]) -> None:
    with pytest.raises(UserError, match="progress"):
        staircase([1, 2, 3], until)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_warm_up_plateau_and_fall(shape: str) -> None:
    s = WarmupDecay(0.1, 0.5, 0.2, shape)
    assert 0 < s(0) < 0.01
    assert s(0.05) == pytest.approx(0.5)
    assert s(0.1) == s(0.3) == s(0.5) == 1.0
    assert s(0.75) == pytest.approx(0.6)  # half way, for a line and for a half cosine
    assert s(1.0) == pytest.approx(0.2)
    values = [s(0.5 + i / 100) for i in range(51)]
    assert values == sorted(values, reverse=True)


def recipe(**settings: Any) -> Schedule:
    return make_plan(Base(), {"lr_schedule": settings}).lr_schedule


def test_shapes_of_the_step_size() -> None:
    assert recipe() == WarmupDecay(0.02, 0.02, 0.0, "linear")
    assert recipe(shape="cosine", decay_from=0.5) == WarmupDecay(0.02, 0.5, 0.0, "cosine")
    constant = recipe(shape="constant", warmup=0.1)
    assert [constant(p) for p in (0.05, 0.1, 0.5, 1.0)] == [0.5, 1.0, 1.0, 1.0]
    wsd = recipe(shape="wsd", decay=0.4, final=0.1)
    assert [wsd(p) for p in (0.02, 0.3, 0.6)] == [1.0, 1.0, 1.0]
    # 1 - sqrt(1/4) of the way from 1 to 0.1 is left after a quarter of the fall.
    assert wsd(0.7) == pytest.approx(0.1 + 0.9 * 0.5)
    assert wsd(1.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"shape": "wsd", "decay_from": 0.5}, "wsd takes decay"),
        ({"shape": "constant", "decay_from": 0.5}, "goes with shape linear or cosine"),
        ({"shape": "constant", "final": 0.5}, "does not fall"),
        ({"decay": 0.5}, "goes with shape wsd"),
        ({"shape": "wsd", "decay": 0.99}, "leave room for the warm-up"),
        ({"shape": "wsd", "decay": 0.0}, "must be above 0"),
    ],
)
def test_a_setting_without_use_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        recipe(**settings)
