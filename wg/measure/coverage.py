"""Do the intervals and tests of the page hold what they say? Simulated arms with a known truth.

An arm's log time is log(true time) + sd * (sqrt(c) u + sqrt(1 - c) e): u is what a seed does to all
arms, e is the run's own, c the correlation between arms. The log factor of a pair of runs then has
the standard deviation sd * sqrt(2 (1 - c)), which is sd itself at c = 0.5. reports/statistics has
the spreads of the committed studies, from which ``SPREADS`` are taken.

``wg.measure.simulate`` runs these studies and those of its siblings ``coverage_*``, and writes
their tables; each returns rows of plain values and is determined by its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from wg.measure.bootstrap import Method, interval_limits
from wg.measure.significance import sign_flip_p, t_p

Row = dict[str, Any]
SPREADS = (0.15, 0.35)  # sd of log time: of a calm study and of a restless one
SEEDS = (3, 5, 8)
ALPHA = 0.05
TRUE_FACTOR = 3.0  # of the arms whose intervals are tested; the others are the baseline's equals
_BLOCK = 1000  # simulations at a time, to keep arrays small


@dataclass(frozen=True)
class Cell:
    """A column of the tables: sd of log time, n pairs of runs. ``index``: of the spread, which the
    random numbers are drawn by."""

    sd: float
    n: int
    index: int

    def rng(self, *study: int) -> np.random.Generator:
        """The cell's own random numbers in this study."""
        return np.random.default_rng([*study, self.n, self.index])

    def row(self, **found: Any) -> Row:
        return {"sd": self.sd, "n": self.n, **found}


@dataclass(frozen=True)
class Scenario:
    """How runs vary. stragglers: share of the arms' runs (never the baseline's) that take
    ``slow`` times as long; the truth is the geometric mean with them."""

    name: str
    correlation: float = 0.5
    tails: float = math.inf  # degrees of freedom of Student's t, scaled to variance 1
    stragglers: float = 0.0
    slow: float = 1.0

    def draw(self, rng: np.random.Generator, sims: int, arms: int, n: int, sd: float) -> np.ndarray:
        """Log times (sims, 1 + arms, n) of mean 0, the baseline first."""

        def noise(*shape: int) -> np.ndarray:
            if math.isinf(self.tails):
                return rng.standard_normal(shape)
            return rng.standard_t(self.tails, shape) / math.sqrt(self.tails / (self.tails - 2))

        shared, own = noise(sims, 1, n), noise(sims, 1 + arms, n)
        c = self.correlation
        logs = sd * (math.sqrt(c) * shared + math.sqrt(1 - c) * own)
        if self.stragglers:
            late = rng.random((sims, arms, n)) < self.stragglers
            logs[:, 1:] += math.log(self.slow) * (late - self.stragglers)
        return logs


SCENARIOS = (
    Scenario("lognormal, seeds shared (c = 0.5)"),
    Scenario("lognormal, seeds not shared (c = 0)", correlation=0.0),
    Scenario("heavy tails (t with 3 degrees of freedom)", tails=3.0),
    Scenario("1 run of the arm in 10 takes 1.3 times", stragglers=0.1, slow=1.3),
    Scenario("1 run of the arm in 10 takes 3 times", stragglers=0.1, slow=3.0),
)


def cells(ns: Sequence[int] = SEEDS, spreads: Sequence[float] = SPREADS) -> list[Cell]:
    """Every spread with every number of seeds."""
    return [Cell(sd, n, i) for i, sd in enumerate(spreads) for n in ns]


def _factors(
    scenario: Scenario, rng: np.random.Generator, sims: int, arms: int, n: int, sd: float
) -> Any:
    """Log speed-ups (sims, arms, n) of arms that are as fast as the baseline."""
    logs = scenario.draw(rng, sims, arms, n, sd)
    return logs[:, :1] - logs[:, 1:]


def interval_coverage(sims: int, seed: int) -> list[Row]:
    """How often each nominal 95% interval holds the true log speed-up; ``below`` and ``above``:
    how often it lies wholly under or over it (2.5% each when right)."""
    rows = []
    for index, scenario in enumerate(SCENARIOS):
        for cell in cells():
            x = _factors(scenario, cell.rng(seed, 1, index), sims, 1, cell.n, cell.sd)[:, 0]
            for method in get_args(Method):
                used = x[: sims // 4] if cell.n > 5 and method != "t" else x  # 6,435 resamples each
                low, high = interval_limits(used, 0.95, method).T
                below, above = float(np.mean(high < 0)), float(np.mean(low > 0))
                width = float(np.median(high - low))
                rows.append(
                    cell.row(
                        scenario=scenario.name, method=method, simulations=len(used),
                        coverage=1 - below - above, below=below, above=above,
                        median_width=None if math.isinf(width) else math.exp(width),
                    )
                )  # fmt: skip
    return rows


def bounded_coverage(sims: int, seed: int) -> list[Row]:
    """A baseline that misses its budget with 3 runs in 10, against an arm that never does: how
    often the lower limit of the mean of the bounds is at most the truth (nominal 97.5%)."""
    rows = []
    for cell in cells():
        logs = SCENARIOS[0].draw(cell.rng(seed, 2), sims, 1, cell.n, cell.sd)
        cut = cell.sd * 0.5244  # the normal distribution's 70% point
        x = np.minimum(logs[:, 0], cut) - (logs[:, 1] - math.log(TRUE_FACTOR))
        for method in ("t", "studentised"):
            low = interval_limits(x, 0.95, method)[:, 0]
            held = float(np.mean(low <= math.log(TRUE_FACTOR)))
            rows.append(cell.row(method=method, low_limit_holds=held,
                                 without_limit=float(np.mean(np.isinf(low)))))  # fmt: skip
    return rows


def holm_rejects(p: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """:func:`wg.measure.significance.holm` over the last axis: p (..., arms) to bool."""
    m = p.shape[-1]
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, axis=-1) * (m - np.arange(m))
    kept = np.maximum.accumulate(steps, axis=-1) <= alpha
    found = np.empty_like(kept)
    np.put_along_axis(found, order, kept, axis=-1)
    return found


_RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "t": lambda t, flip: t <= ALPHA,
    "t with Holm": lambda t, flip: holm_rejects(t),
    "sign-flip": lambda t, flip: flip <= ALPHA,
    "sign-flip with Holm": lambda t, flip: holm_rejects(flip),
    "95% t-interval above 1": lambda t, flip: t < 0.025,
    "joint 95% t-intervals above 1": lambda t, flip: t < 0.025 / t.shape[-1],
}


def wins(sims: int, seed: int) -> list[Row]:
    """Share of simulated sweeps with at least one arm called sooner that is not (5% wanted), and
    share of the arms that are 1.2 times sooner that are called so. ``better``: such arms."""
    rows = []
    for index, scenario in enumerate((SCENARIOS[0], *SCENARIOS[2:])):
        for arms, better in ((1, 0), (4, 0), (8, 0), (4, 2)):
            for cell in cells():
                rng = cell.rng(seed, 3, index, arms, better)
                false = dict.fromkeys(_RULES, 0)
                true = dict.fromkeys(_RULES, 0)
                for start in range(0, sims, _BLOCK):
                    x = _factors(scenario, rng, min(_BLOCK, sims - start), arms, cell.n, cell.sd)
                    x[:, :better] += math.log(1.2)
                    t, flip = t_p(x), sign_flip_p(x)
                    for rule, decide in _RULES.items():
                        called = decide(t, flip)
                        false[rule] += int(called[:, better:].any(axis=1).sum())
                        true[rule] += int(called[:, :better].sum())
                for rule in _RULES:
                    found = true[rule] / sims / better if better else None
                    rows.append(
                        cell.row(scenario=scenario.name, arms=arms, better=better, rule=rule,
                                 false_win=false[rule] / sims, found=found)
                    )  # fmt: skip
    return rows


def winner_coverage(sims: int, seed: int) -> list[Row]:
    """Of several arms as good as the baseline, the one with the largest estimate: how often its
    own 95% t-interval holds the truth, and the joint one (Bonferroni)."""
    rows = []
    for arms in (4, 8):
        for cell in cells():
            x = _factors(SCENARIOS[0], cell.rng(seed, 4, arms), sims, arms, cell.n, cell.sd)
            best = x[np.arange(sims), x.mean(axis=2).argmax(axis=1)]
            row = cell.row(arms=arms)
            for name, level in (("own", 0.95), ("joint", 1 - 0.05 / arms)):
                low, high = interval_limits(best, level, "t").T
                row[name] = float(np.mean((low <= 0) & (high >= 0)))
            row["median_estimate"] = float(np.exp(np.median(best.mean(axis=1))))
            rows.append(row)
    return rows


def quality_claims(sims: int, seed: int) -> list[Row]:
    """Arms whose mean quality equals the target's truth, normal over seeds: how often the one-sided
    test says that it is at least the target (5% wanted). 'median of 5': the target is the median
    of 5 seeds of an arm of the same quality, as frozen targets are, and moves with their luck."""
    rows = []
    for kind in ("exact", "median of 5"):
        for n in SEEDS:
            rng = np.random.default_rng([seed, 6, len(kind), n])
            x = rng.standard_normal((sims, n))
            if kind != "exact":
                x -= np.median(rng.standard_normal((sims, 5)), axis=1)[:, None]
            rows.append({"target": kind, "n": n, "t": float(np.mean(t_p(x) <= ALPHA)),
                         "sign_flip": float(np.mean(sign_flip_p(x) <= ALPHA))})  # fmt: skip
    return rows
