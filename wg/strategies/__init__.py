"""Strategies: one file each, found by looking into this folder.

A strategy is a function that writes slots of a :class:`wg.plan.Plan`; its keyword arguments are
its hyperparameters, its docstring is its method card. To add one: a file here, a file in
``conf/strategy/``, a row in the table of ``tests/strategies``. Listing, sweeps, pages and
contract tests follow.
"""

from wg.strategies.registry import (
    Strategy,
    all_strategies,
    beside_defaults,
    check_installed,
    known_strategy,
    make_plan,
    recipe_with_defaults,
    strategy,
    with_defaults,
)

__all__ = [
    "Strategy",
    "all_strategies",
    "beside_defaults",
    "check_installed",
    "known_strategy",
    "make_plan",
    "recipe_with_defaults",
    "strategy",
    "with_defaults",
]
