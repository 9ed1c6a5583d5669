"""Whole recipes: the order in which a user writes strategies never matters."""

from __future__ import annotations

import inspect
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from wg.plan import SLOTS, Base, Plan
from wg.strategies import all_strategies, make_plan, with_defaults
from wg.sweep.compose import configurations
from wg.sweep.paths import conf_dir
from wg.train.settings import step_shape

RECIPES = sorted(path.stem for path in (conf_dir() / "recipe").glob("*.yaml"))
MOST = 120  # orders of a recipe: all of five strategies, a fixed sample of more


def orders(names: list[str]) -> Iterator[tuple[str, ...]]:
    if math.factorial(len(names)) <= MOST:
        yield from itertools.permutations(names)
        return
    yield from (tuple(names), tuple(reversed(names)))
    rng = random.Random(0)
    for _ in range(MOST - 2):
        yield tuple(rng.sample(names, len(names)))


def plain(value: Any) -> Any:
    """A slot's value as something that equals another made of the same settings: a function by
    what it closes over, a schedule by its course."""
    if inspect.isfunction(value):
        held = inspect.getclosurevars(value).nonlocals
        return value.__qualname__, sorted((k, repr(v)) for k, v in held.items())
    return value


def contents(plan: Plan) -> dict[str, Any]:
    return {slot: plain(getattr(plan, slot)) for slot in SLOTS}


def optimizer_groups(plan: Plan) -> list[dict[str, Any]]:
    if plan.optimizer is None:
        return []
    shapes = {
        "WN.0.start.weight_v": (8, 4, 1),
        "WN.0.end.weight": (4, 8, 1),
        "WN.0.end.bias": (4,),
        "convinv.0.conv.weight": (8, 8, 1),
    }
    made = plan.optimizer((n, torch.nn.Parameter(torch.ones(s))) for n, s in shapes.items())
    return [{**g, "params": [p.shape for p in g["params"]]} for g in made.param_groups]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_same_in_any_order(name: str) -> None:
    config = configurations([f"recipe={name}"])[0]
    given = config["strategy"]
    base = Base(segment_length=config["segment_length"], n_flows=6, n_stages=2)
    first = make_plan(base, given)
    assert set(first.writers().values()) == set(given)
    for order in orders(list(given)):
        plan = make_plan(base, {strategy: given[strategy] for strategy in order})
        assert plan.writers() == first.writers()
        assert contents(plan) == contents(first)
        assert optimizer_groups(plan) == optimizer_groups(first)
        for at in (0.0, 0.1, 0.24, 0.5, 1.0):
            assert step_shape(plan, at) == step_shape(first, at)
            assert plan.lr_schedule(at) == first.lr_schedule(at)


@pytest.mark.parametrize("name", RECIPES)
def test_all_that_a_recipe_leaves_at_its_default_can_be_changed_by_name(name: str) -> None:
    """`wg train recipe=cheap strategy.muon.lr=0.01`: Hydra changes what is in a configuration."""
    found = configurations([f"recipe={name}"])[0]["strategy"]
    for strategy, given in found.items():
        assert list(given) == list(all_strategies()[strategy].defaults())


def test_settings_are_compared_by_what_they_mean() -> None:
    assert with_defaults("clip", {"max_norm": 10}) == with_defaults("clip", {})
    assert repr(with_defaults("clip", {"max_norm": 10})) == repr(with_defaults("clip", None))
    assert with_defaults("clip", {"norm": 1})["norm"] == 1  # of other code
    assert with_defaults("no_such_strategy", {"x": 1}) == {"x": 1}


def test_the_comparison_sees_a_difference() -> None:
    """Or the test above would pass whatever an order did."""
    for one, other in (
        ({"adamw": {"lr": 1e-3}}, {"adamw": {"lr": 2e-3}}),
        ({"ema": {"decay": 0.9}}, {"ema": {"decay": 0.99}}),
        ({"curriculum": {"until": [0.2, 0.5]}}, {"curriculum": {"until": [0.2, 0.6]}}),
        ({"clip": {}}, {}),
    ):
        a, b = (make_plan(Base(), recipe) for recipe in (one, other))
        assert contents(a) != contents(b)
