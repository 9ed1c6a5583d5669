"""How many runs reached the target by when, with runs that missed it censored, not dropped.

Of a run that missed only this is known: it needed more than it had spent. The Kaplan-Meier curve
uses just that. Times are seconds (or any other cost); ``math.inf`` is a miss, and its ``spent``
says how far it is known. A run that diverged would never have got there: give ``math.inf`` as what
it spent and it stays among the runs without the target for good.

With 3 to 10 runs every band here is wide, and so it should be: of 3 runs of which all reached the
target, the share that would has a 95% band from 0.29 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaincinv, ndtri
from scipy.stats import t as student

from wg.errors import UserError

Band = Literal["beta", "log-log"]
_TOUCHING = 1e-12  # products of shares such as 2/3 * 1/2 miss a half by their rounding


@dataclass(frozen=True)
class Step:
    """From ``time`` up to the next step, ``reached`` of all runs have the target.

    low, high  pointwise band of the share at the step's start; None where its formula has no value
    at_risk    runs not yet there and still watched just before ``time``
    events     runs that reached the target at ``time`` (0 only in the first step, at time 0)
    """

    time: float
    reached: float
    low: float | None
    high: float | None
    at_risk: int
    events: int


@dataclass(frozen=True)
class Survival:
    """The curve of one arm. ``censored``: what each run that missed had spent, sorted; ``horizon``:
    the last time at which the curve is known (inf when every run reached the target or is known
    never to)."""

    steps: tuple[Step, ...]
    censored: tuple[float, ...]
    n: int
    horizon: float
    level: float
    band: Band

    @property
    def median(self) -> float:
        """First time by which at least half the runs are expected to have the target; inf: not
        reached (show :meth:`median_words`)."""
        return next((s.time for s in self.steps if s.reached >= 0.5 - _TOUCHING), math.inf)

    def median_words(self) -> str:
        return "not reached" if math.isinf(self.median) else f"{self.median:.3g} s"

    def share_at(self, time: float) -> float:
        """Share of runs with the target by ``time`` >= 0; nan beyond the horizon."""
        if time > self.horizon:
            return math.nan
        return max((s for s in self.steps if s.time <= time), key=lambda s: s.time).reached


def kaplan_meier(
    times: Mapping[int, float],
    spent: Mapping[int, float],
    level: float = 0.95,
    band: Band = "beta",
) -> Survival:
    """Kaplan-Meier estimate of the share that reached the target, by seed.

    A run censored at the moment of another's event counts as still at risk there, as usual.

    band 'beta': the beta product confidence procedure of Fay, Brittain and Proschan (2013,
    Biostatistics 14, 723-736) with its beta approximation by moments; without a censored run it is
    Clopper and Pearson's exact band, so it holds at n = 3. 'log-log': Greenwood's variance on the
    scale log(-log S), the textbook's band for large n; it has no value at shares of 0 and 1.

    Errors: UserError without runs, for a time below 0, or a miss without what it had spent.
    """
    observed, events = _observed(times, spent)
    n = len(observed)
    at = np.unique(observed[events])
    d = np.array([int(np.sum(events & (observed == t))) for t in at], dtype=int)
    r = np.array([int(np.sum(observed >= t)) for t in at], dtype=int)
    survivors = np.cumprod(1 - d / r) if len(at) else np.array([])
    steps = [Step(0.0, 0.0, *_limits(np.array([]), np.array([]), n, level, band), n, 0)]
    for i, t in enumerate(at):
        after = int(np.sum(observed > t))
        low, high = _limits(d[: i + 1], r[: i + 1], after, level, band)
        share = float(1 - survivors[i])
        steps.append(Step(float(t), share, low, high, int(r[i]), int(d[i])))
    if len(at) and at[0] == 0:
        steps = steps[1:]  # met at the very start
    misses = tuple(sorted(float(x) for x in observed[~events]))
    last = math.inf if not misses or steps[-1].reached > 1 - _TOUCHING else float(observed.max())
    return Survival(tuple(steps), misses, n, last, level, band)


def _observed(
    times: Mapping[int, float], spent: Mapping[int, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Time that each run was watched without the target (n,), and whether it then reached it."""
    if not times:
        raise UserError("a survival curve needs at least one run.")
    values, events = [], []
    for seed, t in sorted(times.items()):
        if math.isinf(t) and seed not in spent:
            raise UserError(f"seed {seed} missed the target, and what it spent is not given.")
        value = spent[seed] if math.isinf(t) else t
        if math.isnan(value) or value < 0:
            raise UserError(f"seed {seed} has a time of {value:g}; times are 0 or more.")
        values.append(value)
        events.append(not math.isinf(t))
    return np.array(values, dtype=float), np.array(events, dtype=bool)


def _limits(
    d: np.ndarray, r: np.ndarray, after: int, level: float, band: Band
) -> tuple[float | None, float | None]:
    """Band of the share that reached the target after events d (k,) among r (k,) at risk, with
    ``after`` runs at risk from then on."""
    if band == "beta":
        # S lies between products of betas: as if the next run came at once, or never.
        high_s = _beta_quantile(0.5 + level / 2, r - d + 1, d)
        a, b = np.append(r - d + 1, after), np.append(d, 1)
        low_s = _beta_quantile(0.5 - level / 2, a, b) if after else 0.0
        return 1 - high_s, 1 - low_s
    s = float(np.prod(1 - d / r)) if len(d) else 1.0
    if not _TOUCHING < s < 1 - _TOUCHING:
        return None, None
    spread = math.sqrt(float(np.sum(d / (r * (r - d))))) / math.log(s)
    z = float(ndtri(0.5 + level / 2))
    ends = sorted(s ** math.exp(sign * z * spread) for sign in (-1, 1))
    return 1 - ends[1], 1 - ends[0]


def _beta_quantile(q: float, a: np.ndarray, b: np.ndarray) -> float:
    """Quantile of a product of independent Beta(a_i, b_i), by the beta with its first two moments
    (exact when the product is a beta itself, as without censoring)."""
    if len(a) == 0:
        return 1.0
    mean = float(np.prod(a / (a + b)))
    second = float(np.prod(a * (a + 1) / ((a + b) * (a + b + 1))))
    size = (mean - second) / (second - mean * mean)
    return float(betaincinv(mean * size, (1 - mean) * size, q))


@dataclass(frozen=True)
class RestrictedMeanTime:
    """Mean time to target up to tau, a run that takes longer counting as tau: the area over the
    curve. Unlike a mean of bounds it is an estimate, of min(time, tau). ``n`` runs."""

    seconds: float
    standard_error: float
    tau: float
    n: int


def restricted_mean_time(curve: Survival, tau: float) -> RestrictedMeanTime:
    """Area under the share without the target from 0 to tau, and its standard error.

    Greenwood's variance sum A_i^2 d_i / (r_i (r_i - d_i)), with A_i the area from event i to tau
    (Klein & Moeschberger, Survival Analysis, 2nd ed., eq. 4.5.2), times n / (n - 1): when no run
    is censored before tau this is exactly the usual standard error of the mean of min(time, tau).
    One run has no standard error (nan).

    Errors: UserError for a tau that is not finite and above 0, or beyond the curve's horizon.
    """
    if not (0 < tau < math.inf):
        raise UserError(f"the restricted mean needs a finite tau above 0, not {tau:g}.")
    if tau > curve.horizon * (1 + 1e-12):
        raise UserError(
            f"tau={tau:g} is beyond the {curve.horizon:g} to which the runs were watched: give "
            "at most that."
        )
    kept = [s for s in curve.steps if s.time < tau]
    edges = np.array([s.time for s in kept] + [tau])
    alive = np.array([1 - s.reached for s in kept])
    areas = alive * np.diff(edges)
    after = np.cumsum(areas[::-1])[::-1]
    variance = sum(
        a * a * s.events / (s.at_risk * (s.at_risk - s.events))
        for a, s in zip(after, kept, strict=True)
        if 0 < s.events < s.at_risk
    )
    error = math.sqrt(variance * curve.n / (curve.n - 1)) if curve.n > 1 else math.nan
    return RestrictedMeanTime(float(areas.sum()), error, tau, curve.n)


def shared_tau(curves: Mapping[str, Survival]) -> float:
    """The largest tau that all arms can be compared at: the shortest horizon, or the last event
    when every curve is known for good."""
    horizon = min(c.horizon for c in curves.values())
    if math.isfinite(horizon):
        return horizon
    return max(s.time for c in curves.values() for s in c.steps)


@dataclass(frozen=True)
class MeanRatio:
    """Restricted mean of the baseline / of the arm, with its interval (None: not to be had)."""

    ratio: float
    low: float | None
    high: float | None
    tau: float
    level: float


def restricted_mean_ratio(
    baseline: Survival, arm: Survival, tau: float | None = None, level: float = 0.95
) -> MeanRatio:
    """How many times shorter the arm's restricted mean is; an estimate even when runs missed.

    Interval on the log ratio by the delta method with Student's t and Welch's degrees of freedom.
    The arms count as independent: with seeds that help or hurt both, the interval is too wide,
    never too narrow. The ratio depends on tau, and nears 1 when both arms mostly miss.
    """
    tau = shared_tau({"baseline": baseline, "arm": arm}) if tau is None else tau
    b, a = restricted_mean_time(baseline, tau), restricted_mean_time(arm, tau)
    if a.seconds <= 0 or b.seconds <= 0:
        raise UserError("an arm that meets the target at time 0 with every seed has no ratio.")
    ratio = b.seconds / a.seconds
    parts = [(m.standard_error / m.seconds) ** 2 for m in (b, a)]
    total = sum(parts)
    if math.isnan(total) or total == 0:
        return MeanRatio(ratio, None, None, tau, level)
    df = total**2 / sum(p * p / (m.n - 1) for p, m in zip(parts, (b, a), strict=True))
    half = float(student.ppf(0.5 + level / 2, df)) * math.sqrt(total)
    return MeanRatio(ratio, ratio * math.exp(-half), ratio * math.exp(half), tau, level)
