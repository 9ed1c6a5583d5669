"""Do the intervals of what each strategy contributes hold what they say?

Studies like those of ``wg.measure.coverage``, of a full design of three strategies: ``a`` gains
much, ``b`` little, ``c`` nothing; ``a`` and ``b`` do the same job in part, so together they gain
less than apart, and no other pair interacts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wg.measure.attribution import (
    leave_one_out_effects,
    shapley_interactions,
    shapley_values,
    whole_effect,
)
from wg.measure.contrast import Contribution, Recipe, Results
from wg.measure.coverage import SCENARIOS, Row, cells

STRATEGIES = ("a", "b", "c")
GAINS = {"a": 2.0, "b": 1.3, "c": 1.0}
TOGETHER = {("a", "b"): 0.8}  # factor on the product of the two
SEEDS = (3, 5)
RECIPES = tuple(
    frozenset(s) for k in range(4) for s in itertools.combinations(STRATEGIES, k)
)  # the full design
Table = Mapping[str, Contribution]


def log_gain(recipe: Recipe) -> float:
    """log of how many times sooner the recipe's median run is than the empty recipe's."""
    gains = [GAINS[s] for s in recipe]
    gains += [f for pair, f in TOGETHER.items() if recipe.issuperset(pair)]
    return math.fsum(map(math.log, gains))


def truths() -> dict[str, dict[str, float]]:
    """Table -> effect -> true log factor, by hand: with one interaction, Shapley's value of each
    of its two strategies has half of it, leave-one-out all of it."""
    half = {s: math.fsum(math.log(f) / 2 for p, f in TOGETHER.items() if s in p) for s in GAINS}
    logs = {s: math.log(g) for s, g in GAINS.items()}
    pairs = itertools.combinations(STRATEGIES, 2)
    return {
        "shapley": {s: logs[s] + half[s] for s in STRATEGIES},
        "leave_one_out": {s: logs[s] + 2 * half[s] for s in STRATEGIES},
        "interactions": {f"{x}:{y}": math.log(TOGETHER.get((x, y), 1.0)) for x, y in pairs},
        "all_together": {"all together": log_gain(frozenset(STRATEGIES))},
    }


_TABLES: dict[str, Callable[[Results, int], Table]] = {
    "shapley": lambda r, m: shapley_values(STRATEGIES, r, comparisons=m),
    "leave_one_out": lambda r, m: leave_one_out_effects(STRATEGIES, r, comparisons=m),
    "interactions": lambda r, m: shapley_interactions(STRATEGIES, r, comparisons=m),
    "all_together": lambda r, m: {"all together": whole_effect(STRATEGIES, r)},
}


def attribution_coverage(sims: int, seed: int) -> list[Row]:
    """Of every effect of every table, with seeds shared (c = 0.5) and log-normal noise:

    true          its factor
    coverage      how often its own 95% interval holds it; ``joint``: how often the one that the
                  page shows does, which is widened for the effects of its table to hold together
    called        how often its own interval leaves out 1; ``called_joint``: the page's
    median_width  upper / lower limit of its own

    and a row for a whole table, effect 'any': coverage and joint of all its intervals at once,
    called and called_joint of at least one effect that is truly 1 (None without such).
    """
    rows = []
    for cell in cells(SEEDS):
        noise = SCENARIOS[0].draw(cell.rng(seed, 8), sims, len(RECIPES) - 1, cell.n, cell.sd)
        found: dict[str, list[tuple[Table, Table]]] = {name: [] for name in _TABLES}
        for logs in noise:
            results = _results(logs)
            for name, table in _TABLES.items():
                found[name].append((table(results, 1), table(results, len(STRATEGIES))))
        for name, truth in truths().items():
            own, joint = (_limits([pair[i] for pair in found[name]], truth) for i in (0, 1))
            rows += [cell.row(table=name, **r) for r in _rows(truth, own, joint)]
    return rows


def _results(logs: np.ndarray) -> Results:
    """One study: logs (recipes, seeds) is what its runs' log times differ from the truth by."""
    times = {
        recipe: {s: math.exp(v - log_gain(recipe)) for s, v in enumerate(row)}
        for recipe, row in zip(RECIPES, logs, strict=True)
    }
    return Results(times, {})


def _limits(tables: Sequence[Table], truth: Mapping[str, float]) -> np.ndarray:
    """Log limits (sims, effects, 2)."""
    limits = [[(t[e].low, t[e].high) for e in truth] for t in tables]
    return np.log(np.array(limits, dtype=float))


def _rows(truth: Mapping[str, float], own: np.ndarray, joint: np.ndarray) -> list[dict[str, Any]]:
    at = np.array(list(truth.values()))
    held = [(x[..., 0] <= at) & (at <= x[..., 1]) for x in (own, joint)]
    called = [(x[..., 0] > 0) | (x[..., 1] < 0) for x in (own, joint)]
    widths = np.exp(np.median(own[..., 1] - own[..., 0], axis=0))
    rows: list[dict[str, Any]] = [
        {
            "effect": effect, "true": math.exp(truth[effect]),
            "coverage": float(held[0][:, i].mean()), "joint": float(held[1][:, i].mean()),
            "called": float(called[0][:, i].mean()),
            "called_joint": float(called[1][:, i].mean()),
            "median_width": float(widths[i]),
        }
        for i, effect in enumerate(truth)
    ]  # fmt: skip
    nothing = np.abs(at) < 1e-12
    false = [float(c[:, nothing].any(axis=1).mean()) if nothing.any() else None for c in called]
    if len(truth) > 1:
        rows.append(
            {
                "effect": "any", "true": None,
                "coverage": float(held[0].all(axis=1).mean()),
                "joint": float(held[1].all(axis=1).mean()),
                "called": false[0], "called_joint": false[1], "median_width": None,
            }
        )  # fmt: skip
    return rows
