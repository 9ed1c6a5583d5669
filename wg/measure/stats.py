"""Speed-ups with their uncertainty, and what may be said when a run missed the target.

Times are seconds (or any other cost) to the target; ``math.inf`` is a miss. Each run also has
what it had spent at the end of its budget: a run that missed would have needed more than that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import t as student

Bound = Literal["exact", "at least", "at most", "unknown"]
IntervalKind = Literal["95% t-interval", "range of 2 pairs", "none"]


@dataclass(frozen=True)
class SpeedUp:
    """Geometric mean over seeds of baseline time / arm time.

    estimate   the factor; a bound on it when ``bound`` is not 'exact'; None when unknown
    low, high  the interval that ``interval`` names; None without one
    pairs      seed -> factor (a bound on it when one of the two runs missed), where known
    n          seeds that both arms have
    """

    estimate: float | None
    low: float | None
    high: float | None
    interval: IntervalKind
    bound: Bound
    n: int
    pairs: dict[int, float]
    note: str


def speed_up(
    baseline: Mapping[int, float],
    arm: Mapping[int, float],
    baseline_spent: Mapping[int, float],
    arm_spent: Mapping[int, float],
    comparisons: int = 1,
) -> SpeedUp:
    """How many times sooner ``arm`` is than ``baseline``, over the seeds they share.

    Seeds are pairs, so what a seed does to both arms cancels. With three pairs or more: a 95%
    t-interval on the log factors (for ``comparisons`` > 1 widened by Bonferroni, so that all
    those intervals hold together). With two pairs: their range, which is no confidence interval.

    A miss bounds a pair's factor: the baseline spent b and missed, so it is above b / t; the
    arm spent c and missed, so it is below t / c. Bounds of one direction make a bounded
    geometric mean; of both directions, or a pair that missed twice, nothing is known.
    """
    seeds = sorted(set(baseline) & set(arm))
    pairs: dict[int, float] = {}
    kinds: list[Bound] = []
    for s in seeds:
        b, a = baseline[s], arm[s]
        if math.isinf(b) and math.isinf(a):
            kinds.append("unknown")
            continue
        top = baseline_spent[s] if math.isinf(b) else b
        bottom = arm_spent[s] if math.isinf(a) else a
        if top <= 0 or bottom <= 0:
            kinds.append("unknown")  # met before any time was spent: no factor
            continue
        pairs[s] = top / bottom
        kinds.append("at least" if math.isinf(b) else "at most" if math.isinf(a) else "exact")
    bound = _joint(kinds)
    if bound == "unknown":
        return SpeedUp(None, None, None, "none", bound, len(seeds), pairs, _unknown(kinds))
    logs = np.log([pairs[s] for s in seeds])
    estimate = float(np.exp(logs.mean()))
    missed = sum(k != "exact" for k in kinds)
    if bound != "exact":
        who = "the baseline" if bound == "at least" else "the arm"
        note = f"{who} missed the target in {missed} of {len(seeds)} pairs"
        return SpeedUp(estimate, None, None, "none", bound, len(seeds), pairs, note)
    if len(seeds) == 1:
        note = "one pair of runs: no interval"
        return SpeedUp(estimate, None, None, "none", bound, 1, pairs, note)
    if len(seeds) == 2:
        low, high = (float(np.exp(f(logs))) for f in (np.min, np.max))
        note = "two pairs: their range, which is not a confidence interval"
        return SpeedUp(estimate, low, high, "range of 2 pairs", bound, 2, pairs, note)
    low, high = t_interval(logs, 1 - 0.05 / max(comparisons, 1))
    note = f"{len(seeds)} pairs of runs" + (
        f", widened for {comparisons} comparisons" if comparisons > 1 else ""
    )
    return SpeedUp(
        estimate, math.exp(low), math.exp(high), "95% t-interval", bound, len(seeds), pairs, note
    )


def widened(speed: SpeedUp, error: float, rounds: int) -> SpeedUp:
    """``speed`` of times that hang on a factor which was measured once for all seeds, in so many
    ``rounds``: ``error`` is the standard error of that factor's logarithm. Half-widths, each by its
    own t, are added in quadrature (Zou & Donner 2008, https://doi.org/10.1002/sim.3095)."""
    if speed.interval != "95% t-interval" or rounds < 2:
        return speed
    assert speed.estimate is not None
    assert speed.low is not None
    assert speed.high is not None
    seeds = math.log(speed.high / speed.low) / 2
    wider = math.exp(math.hypot(seeds, float(student.ppf(0.975, rounds - 1)) * error))
    note = f"{speed.note}, and {rounds} rounds"
    return replace(speed, low=speed.estimate / wider, high=speed.estimate * wider, note=note)


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's interval for the mean of ``values`` (n,), n >= 2."""
    n = len(values)
    half = float(student.ppf(0.5 + level / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    mean = float(np.mean(values))
    return mean - half, mean + half


def _joint(kinds: list[Bound]) -> Bound:
    """What the geometric mean of pairs of these kinds is."""
    found = set(kinds)
    if not found or "unknown" in found or {"at least", "at most"} <= found:
        return "unknown"
    return next(iter(found - {"exact"}), "exact")


def _unknown(kinds: list[Bound]) -> str:
    if not kinds:
        return "no seed in common with the baseline"
    if "unknown" in kinds:
        n = kinds.count("unknown")
        return f"in {n} of {len(kinds)} pairs neither run has a time above 0 to compare"
    return "the baseline missed in some pairs, the arm in others"


@dataclass(frozen=True)
class RestrictedMean:
    """Mean over seeds of the time to target, a miss counting as all that its run had spent: a
    lower bound of the mean time as soon as there is a miss."""

    seconds: float
    reached: int
    missed: int

    @property
    def is_lower_bound(self) -> bool:
        return self.missed > 0


def restricted_mean(times: Mapping[int, float], spent: Mapping[int, float]) -> RestrictedMean:
    """Times to target (inf: missed) and the runs' whole cost, by seed."""
    assert times
    values = [spent[s] if math.isinf(t) else t for s, t in sorted(times.items())]
    missed = sum(math.isinf(t) for t in times.values())
    return RestrictedMean(float(np.mean(values)), len(times) - missed, missed)
