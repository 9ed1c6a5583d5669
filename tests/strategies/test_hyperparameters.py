"""Every number that a strategy takes: what no recipe can mean is refused by its name."""

from __future__ import annotations

import math
import typing
from typing import Any

import pytest
from strategies_table import ROWS

from wg.errors import UserError
from wg.plan import Base, Plan
from wg.strategies import all_strategies, make_plan


def numbers() -> list[tuple[str, str, Any]]:
    """(strategy, hyperparameter, a value of its type that is out of any range)."""
    found: list[tuple[str, str, Any]] = []
    for name, strategy in all_strategies().items():
        hints = typing.get_type_hints(strategy.apply, localns={"Plan": Plan})
        for setting in strategy.defaults():
            hint = str(hints[setting])
            bad = [-1.0, math.inf, -math.inf, math.nan] if "float" in hint else []
            bad += [-1] if "int" in hint else []
            found += [(name, setting, (b,) if "tuple" in hint else b) for b in bad]
    return found


@pytest.mark.parametrize(("name", "setting", "value"), numbers())
def test_no_number_is_taken_that_means_nothing(name: str, setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"strategy[. ]'?{name}\b"):
        make_plan(Base(), {name: {**ROWS[name], setting: value}})


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"lr_schedule": {"warmup": 0.5, "decay_from": 0.2}}, "lies within the warm-up"),
        ({"adamw": {"eps": 0.0}}, "eps=0.0 must be positive"),
        ({"squeeze": {"n_early_size": 3}}, "n_early_size=3 must be even"),
        ({"warm_start": {"donor": "x", "donor_seconds": -0.5}}, "must not be negative"),
        ({"whiten_init": {"seconds": 1e-9}}, "seconds=1e-09 must be at least 1"),
        ({"conditional_init": {"seconds": 1e-3}}, "seconds=0.001 must be at least 1"),
        ({"curriculum": {"segment_lengths": []}}, "segment_lengths=.. names no length"),
        ({"batch_ramp": {"batch_sizes": []}}, "at least one size"),
        ({"muon": {"adam_lr": -1.0}}, "muon.adam_lr=-1.0 must be positive"),
    ],
)
def test_what_lies_between_is_refused_too(recipe: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_plan(Base(), recipe)
