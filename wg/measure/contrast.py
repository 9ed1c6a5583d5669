"""Contrasts of recipes on the log of time to target: estimate, bound, interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wg.errors import UserError
from wg.measure.bootstrap import Method, interval_limits
from wg.measure.stats import Bound

Recipe = frozenset[str]


@dataclass(frozen=True)
class Results:
    """Times to target (inf: missed) and what the runs had spent: recipe -> seed -> cost. A run
    that diverged has spent inf: no finite time bounds what it would have needed."""

    times: Mapping[Recipe, Mapping[int, float]]
    spent: Mapping[Recipe, Mapping[int, float]]

    def seeds(self, recipes: Sequence[Recipe]) -> list[int]:
        """Seeds that all these recipes have.

        Errors: UserError for a recipe without runs, or recipes without a seed in common.
        """
        for recipe in recipes:
            if not self.times.get(recipe):
                raise UserError(f"the attribution needs runs of the recipe {show(recipe)}.")
        shared = set.intersection(*(set(self.times[r]) for r in recipes))
        if not shared:
            raise UserError("the recipes of the attribution have no seed in common.")
        return sorted(shared)

    def logs(self, recipes: Sequence[Recipe], seeds: Sequence[int]) -> tuple[np.ndarray, ...]:
        """log time, or of a miss log of what was spent, (recipes, seeds), and where it missed.
        nan where nothing is known: diverged, or met before any time was spent."""
        values = np.full((len(recipes), len(seeds)), math.nan)
        missed = np.zeros(values.shape, dtype=bool)
        for i, recipe in enumerate(recipes):
            for j, seed in enumerate(seeds):
                time = self.times[recipe][seed]
                missed[i, j] = math.isinf(time)
                cost = self.spent[recipe][seed] if missed[i, j] else time
                if 0 < cost < math.inf:
                    values[i, j] = math.log(cost)
        return values, missed

    def mean_logs(self, recipes: Sequence[Recipe]) -> np.ndarray:
        """Mean over the shared seeds of log time, (recipes,)."""
        return self.logs(recipes, self.seeds(recipes))[0].mean(axis=1)


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of log times; recipes with positive weight are those that it speaks against.
    ``aliases``: effects that it cannot be told from."""

    name: str
    weights: Mapping[Recipe, float]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contribution:
    """A factor on time to target: above 1 is sooner.

    factor     geometric mean over seeds; a bound on it unless ``bound`` is 'exact'; None: unknown
    low, high  interval over seeds; None where there is none. With bound 'at least' only low, with
               'at most' only high is a limit
    seeds      seed -> its factor (from bounds where runs missed), where there is one
    n          seeds that all recipes involved have
    aliases    effects that it cannot be told from: the factor is of their product
    """

    factor: float | None
    low: float | None
    high: float | None
    bound: Bound
    n: int
    seeds: dict[int, float]
    aliases: tuple[str, ...]


def evaluate(
    contrasts: Sequence[Contrast],
    results: Results,
    level: float = 0.95,
    method: Method = "t",
    comparisons: int = 1,
) -> dict[str, Contribution]:
    """Every contrast by name, over the seeds that all recipes of all contrasts share.

    A run that missed would have needed more than it spent. So where it has a positive weight the
    contrast is at least what the bound gives, with a negative weight at most, and with both kinds
    unknown. Intervals need 3 seeds; ``comparisons``: contributions that are to hold together.

    Errors: UserError for a recipe without runs, or without a shared seed.
    """
    recipes = list(dict.fromkeys(r for c in contrasts for r in c.weights))
    seeds = results.seeds(recipes)
    values, missed = results.logs(recipes, seeds)
    joint = 1 - (1 - level) / max(comparisons, 1)
    found = {}
    for contrast in contrasts:
        weights = np.array([contrast.weights.get(r, 0.0) for r in recipes])
        used = np.abs(weights) > 1e-12
        y, miss = values[used], missed[used]
        logs = weights[used] @ y
        known = np.isfinite(logs)
        up, down = ((miss & (sign * weights[used] > 0)[:, None]).any(axis=0) for sign in (1, -1))
        rises, falls = bool(up.any()), bool(down.any())
        bound: Bound = "at least" if rises else "at most" if falls else "exact"
        if (rises and falls) or not known.all():
            bound = "unknown"
        pairs = {
            s: math.exp(v)
            for s, v, both in zip(seeds, logs, up & down, strict=True)
            if math.isfinite(v) and not both
        }
        low, high = None, None
        if bound != "unknown" and len(seeds) >= 3:
            low, high = (_factor(v) for v in interval_limits(logs, joint, method))
        found[contrast.name] = Contribution(
            None if bound == "unknown" else math.exp(float(logs.mean())),
            None if bound == "at most" else low,
            None if bound == "at least" else high,
            bound,
            len(seeds),
            pairs,
            contrast.aliases,
        )
    return found


def _factor(log: float) -> float | None:
    return math.exp(log) if math.isfinite(log) else None


def show(recipe: Recipe) -> str:
    return "[" + ", ".join(sorted(recipe)) + "]"
