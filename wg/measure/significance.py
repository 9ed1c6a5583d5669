"""Is it sooner, is it good enough: one-sided tests on few runs, and Holm's correction.

What n runs can show has a floor. A sign-flip test sees 2**n arrangements of the signs, so its
one-sided p cannot go below 1 / 2**n: 0.125 at n = 3, 0.063 at 4, 0.031 at 5, 0.0039 at 8. With
fewer than 5 pairs it can never reach 0.05, whatever the arm does, and with Holm over m arms it
needs n >= log2(m / 0.05). Student's t has no such floor; at small n it leans on normal values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.stats import t as student

from wg.errors import UserError
from wg.measure.stats import Bound, speed_up

LARGEST_EXACT = 14
DRAWN = 99_999
_SAME = 1e-12  # relative: sums of the same numbers in another order are equal


def smallest_p(n: int) -> float:
    """The least one-sided p that a sign-flip test of n values can give."""
    return 2.0**-n


@lru_cache(maxsize=4)
def _signs(n: int, seed: int) -> np.ndarray:
    """Sign arrangements (R, n) of +-1: all of them, or drawn ones with the observed one first."""
    if n > LARGEST_EXACT:
        drawn = np.random.default_rng(seed).choice((-1.0, 1.0), (DRAWN, n))
        return np.concatenate([np.ones((1, n)), drawn])
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return 1.0 - 2.0 * bits


def sign_flip_p(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """One-sided p of 'the mean is above 0' over the last axis: values (..., n) to p (...).

    Exact for values that are symmetric about their centre: under the null each sign is a coin
    toss (Fisher 1935, The Design of Experiments, sec. 21). All arrangements up to n = 14; beyond,
    99,999 drawn with ``seed``, the observed one counted in.
    """
    x = np.asarray(values, dtype=float)
    sums = x @ _signs(x.shape[-1], seed).T
    observed = x.sum(axis=-1, keepdims=True)
    slack = _SAME * np.abs(x).sum(axis=-1, keepdims=True)
    return np.mean(sums >= observed - slack, axis=-1)


def t_p(values: np.ndarray) -> np.ndarray:
    """One-sided p of 'the mean is above 0' by Student's t over the last axis, (..., n) to (...).

    1 where nothing can be judged: one value, or values without any spread.
    """
    x = np.asarray(values, dtype=float)
    n = x.shape[-1]
    if n < 2:
        return np.ones(x.shape[:-1])
    sd = x.std(axis=-1, ddof=1)
    flat = sd <= _SAME * np.abs(x).max(axis=-1)
    ratio = x.mean(axis=-1) / np.where(flat, 1.0, sd) * math.sqrt(n)
    return np.where(flat, 1.0, student.sf(ratio, n - 1))


@dataclass(frozen=True)
class Evidence:
    """p-values of one claim. ``at_most``: runs missed, so the p-values are upper bounds (safe to
    reject with). ``floor``: the least that ``sign_flip`` could have been."""

    t: float
    sign_flip: float
    floor: float
    n: int
    at_most: bool
    note: str


def sooner(
    baseline: Mapping[int, float],
    arm: Mapping[int, float],
    baseline_spent: Mapping[int, float],
    arm_spent: Mapping[int, float],
) -> Evidence:
    """Evidence that the arm reaches the target sooner: mean log factor over shared seeds above 0.

    Pairs bounded from below enter with their bound: a larger factor could only lower the sign-flip
    p, and the mean of the bounds is no larger than the mean itself, which is what t then tests. A
    pair that is bounded from above, or of which nothing is known, may be as bad as can be: the
    sign-flip test counts it as lost by any factor, and t says nothing (p = 1). A run that diverged
    has no bound: give ``math.inf`` as what it spent.

    Errors: UserError when the arms share no seed.
    """
    logs: list[float] = []
    kinds: list[Bound] = []
    for s in sorted(set(baseline) & set(arm)):
        spent = [
            c[s] for t, c in ((baseline, baseline_spent), (arm, arm_spent)) if math.isinf(t[s])
        ]
        if any(map(math.isinf, spent)):
            kinds.append("unknown")
            logs.append(0.0)
            continue
        one = speed_up({s: baseline[s]}, {s: arm[s]}, baseline_spent, arm_spent)
        kinds.append(one.bound)
        logs.append(math.log(one.estimate) if one.estimate else 0.0)
    if not logs:
        raise UserError("the arm and the baseline share no seed, so nothing can be tested.")
    lost = np.array([k in ("at most", "unknown") for k in kinds])
    values = np.array(logs)
    values[lost] = -(1 + 2 * float(np.abs(values[~lost]).sum()))  # outweighs all others together
    missed = sum(k != "exact" for k in kinds)
    note = f"{len(kinds)} pairs"
    if missed:
        note += f", {missed} known only by a bound or not at all"
    t = 1.0 if lost.any() else float(t_p(values))
    n = len(values)
    return Evidence(t, float(sign_flip_p(values)), smallest_p(n), n, missed > 0, note)


def good_enough(
    values: Sequence[float], threshold: float, direction: Literal["lower", "higher", "zero"]
) -> Evidence:
    """Evidence that the mean quality at the fixed budget is at least the target.

    values: one per seed. 'lower' (better): mean below ``threshold``; 'higher': above it; 'zero':
    within +-threshold, by two one-sided tests (Schuirmann 1987) with the larger p. The threshold
    counts as a fixed number. Where it is itself the median of 5 baseline seeds, an arm no better
    than the baseline passes in 8% (3 seeds) to 16% (8 seeds) of simulated studies, not 5%:
    reports/statistics. A mean equal to the target is the null.

    Errors: UserError without values or with one that is not finite (a diverged run has no mean).
    """
    x = np.array(list(values), dtype=float)
    if len(x) == 0 or not np.isfinite(x).all():
        raise UserError("the quality test needs a finite value from every seed.")
    sides = {
        "lower": [threshold - x],
        "higher": [x - threshold],
        "zero": [threshold - x, x + threshold],
    }[direction]
    n = len(x)
    t, flip = (max(float(f(side)) for side in sides) for f in (t_p, sign_flip_p))
    return Evidence(t, flip, smallest_p(n), n, False, f"{n} seeds")


@dataclass(frozen=True)
class Corrected:
    """``adjusted``: the least family-wise error rate at which this p is rejected."""

    p: float
    adjusted: float
    rejected: bool


def holm(p: Mapping[str, float], alpha: float = 0.05) -> dict[str, Corrected]:
    """Holm's step-down correction (1979, Scand. J. Statist. 6, 65-70): the chance that any true
    null among all arms is rejected stays at most ``alpha``, whatever their dependence.

    Errors: UserError for a p outside [0, 1].
    """
    bad = [name for name, value in p.items() if not 0 <= value <= 1]
    if bad:
        raise UserError(f"p of '{bad[0]}' is {p[bad[0]]}: it must lie between 0 and 1.")
    found: dict[str, Corrected] = {}
    running = 0.0
    for rank, name in enumerate(sorted(p, key=lambda k: (p[k], k))):
        running = max(running, min(1.0, (len(p) - rank) * p[name]))
        found[name] = Corrected(p[name], running, running <= alpha)
    return {name: found[name] for name in p}
