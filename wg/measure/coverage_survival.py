"""Do Kaplan-Meier bands and ratios of restricted means hold what they say, with runs censored?

The studies of ``wg.measure.coverage`` that go through survival curves: see there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from scipy.special import ndtr, ndtri

from wg.measure.coverage import SCENARIOS, SPREADS, Row, Scenario, cells
from wg.measure.survival import Band, kaplan_meier, restricted_mean_ratio

WIDE = (*SPREADS, 0.7)  # here coverage depends on the spread: that of a target met very early, too
UNPAIRED = SCENARIOS[1]


def restricted_lognormal_mean(log_median: float, sd: float, tau: float) -> float:
    """E[min(T, tau)] of log T normal with that mean and standard deviation, in the unit of tau:
    exp(m + sd^2 / 2) Phi((ln tau - m) / sd - sd) + tau (1 - Phi((ln tau - m) / sd))."""
    z = (math.log(tau) - log_median) / sd
    whole = math.exp(log_median + sd * sd / 2)
    return float(whole * ndtr(z - sd) + tau * ndtr(-z))


def survival_coverage(sims: int, seed: int) -> list[Row]:
    """Kaplan-Meier bands at the time by which half of all runs reach the target, with 3 runs in 10
    censored (budgets from the 50% point of the times up), and the interval of the ratio of two
    restricted means without a censored run (baseline 1.5 times slower, tau = the 80% point of the
    baseline), for arms whose seeds are not shared: with shared ones it is wider than it need be."""
    rows: list[Row] = []
    for cell in cells():
        rng, sd = cell.rng(seed, 5), cell.sd
        times = np.exp(UNPAIRED.draw(rng, sims, 1, cell.n, sd))
        times[:, 1] /= 1.5
        budgets = np.exp(sd * np.abs(rng.standard_normal((sims, cell.n))))
        held = dict.fromkeys(get_args(Band), 0)
        absent = dict.fromkeys(get_args(Band), 0)
        tau = math.exp(sd * 0.8416)
        truth = restricted_lognormal_mean(0.0, sd, tau)
        truth /= restricted_lognormal_mean(-math.log(1.5), sd, tau)
        ratio_held = ratio_absent = 0
        for sim in range(sims):
            run = {i: float(t) for i, t in enumerate(times[sim, 0])}
            spent = {i: float(b) for i, b in enumerate(budgets[sim])}
            cut = {i: t if t <= spent[i] else math.inf for i, t in run.items()}
            for band in held:
                steps = kaplan_meier(cut, spent, 0.95, band).steps
                low, high = next((s.low, s.high) for s in reversed(steps) if s.time <= 1)
                if low is None or high is None:
                    absent[band] += 1
                else:
                    held[band] += low <= 0.5 <= high
            arm = {i: float(t) for i, t in enumerate(times[sim, 1])}
            found = restricted_mean_ratio(kaplan_meier(run, {}), kaplan_meier(arm, {}), tau)
            if found.low is None or found.high is None:
                ratio_absent += 1
            else:
                ratio_held += found.low <= truth <= found.high
        for name, right, none in [
            *((f"Kaplan-Meier, {b}", held[b], absent[b]) for b in held),
            ("restricted mean ratio, nothing censored", ratio_held, ratio_absent),
        ]:
            rows.append(cell.row(interval=name, coverage=right / max(sims - none, 1),
                                 without_interval=none / sims))  # fmt: skip
    return rows


@dataclass(frozen=True)
class Budget:
    """``missing``: share of the baseline's runs that its budget is too short for; every arm has
    that budget, and ``factor`` is by how much its median run is sooner."""

    missing: float
    factor: float
    noise: Scenario = UNPAIRED

    @property
    def words(self) -> str:
        seeds = ", seeds shared (c = 0.5)" if self.noise.correlation else ""
        return (
            f"the baseline misses with {10 * self.missing:.0f} in 10, arm {self.factor:g}x{seeds}"
        )


BUDGETS = (
    Budget(0.1, 3.0),
    Budget(0.3, 3.0),
    Budget(0.6, 3.0),
    Budget(0.3, 1.2),  # where the arm misses, too
    Budget(0.3, 3.0, SCENARIOS[0]),
)


def censored_coverage(sims: int, seed: int) -> list[Row]:
    """The interval of the ratio of restricted means with runs censored at the budget, which is tau.

    coverage   over all simulated studies, of those that have an interval
    shown      share in which a run missed and one did not: the page shows the ratio in those alone
    coverage_shown  over the shown ones that have an interval
    without_interval  share of all without: no run of either arm differs from the next
    """
    rows = []
    for index, budget in enumerate(BUDGETS):
        for cell in cells(spreads=WIDE):
            tau = math.exp(cell.sd * float(ndtri(1 - budget.missing)))
            truth = restricted_lognormal_mean(0.0, cell.sd, tau)
            truth /= restricted_lognormal_mean(-math.log(budget.factor), cell.sd, tau)
            times = np.exp(budget.noise.draw(cell.rng(seed, 7, index), sims, 1, cell.n, cell.sd))
            times[:, 1] /= budget.factor
            studies = [_censored(t, tau, truth) for t in times]
            rows.append(cell.row(scenario=budget.words, true_ratio=truth, **_shares(studies)))
    return rows


def _censored(times: np.ndarray, tau: float, truth: float) -> tuple[bool, bool | None]:
    """Of one study, times (2, n): whether the page shows its ratio, and whether the interval holds
    the truth (None: no interval)."""
    spent = dict.fromkeys(range(times.shape[1]), tau)
    base, arm = (
        kaplan_meier({i: float(t) if t <= tau else math.inf for i, t in enumerate(row)}, spent)
        for row in times
    )
    found = restricted_mean_ratio(base, arm, tau)
    missed = times > tau
    shown = bool(missed.any() and not missed.all())
    if found.low is None or found.high is None:
        return shown, None
    return shown, found.low <= truth <= found.high


def _shares(studies: list[tuple[bool, bool | None]]) -> dict[str, Any]:
    every = [held for _, held in studies if held is not None]
    shown = [held for shows, held in studies if shows and held is not None]
    return {
        "coverage": float(np.mean(every)) if every else None,
        "shown": float(np.mean([shows for shows, _ in studies])),
        "coverage_shown": float(np.mean(shown)) if shown else None,
        "without_interval": 1 - len(every) / len(studies),
    }
