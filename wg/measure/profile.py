"""Performance profiles: which arm is how far from the best, over many problems at once.

A problem is a target, a data set, or both; a time is the cost to it, ``math.inf`` a miss. The
profile of an arm at ratio r is the share of problems that it solved within r times the best arm's
time (Dolan & Moré 2002, Mathematical Programming 91, 201-213). At r = 1: how often it was best; at
the far right: how often it got there at all.

A profile ranks an arm against the best, not two arms against each other: with a third arm that is
best somewhere, the order of the other two can change (Gould & Scott 2016, ACM TOMS 43, 15). And an
arm is as fast as the arms beside it are slow: profiles of different sets of arms do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wg.errors import UserError


@dataclass(frozen=True)
class Profile:
    """``ratios``: problem -> time / best time of any arm (inf: missed). ``steps``: rising
    (ratio, share of problems within it), at the finite ratios; before the first one the share
    is 0."""

    ratios: dict[str, float]
    steps: tuple[tuple[float, float], ...]

    def share_within(self, ratio: float) -> float:
        """At ``math.inf``: the share of problems solved at all (a miss is within no ratio)."""
        within = [math.isfinite(r) and r <= ratio for r in self.ratios.values()]
        return sum(within) / len(within)


def performance_profiles(times: Mapping[str, Mapping[str, float]]) -> dict[str, Profile]:
    """times: arm -> problem -> cost to the target (inf: missed). For several seeds give one time
    a problem (their geometric mean, or their restricted mean), or each problem-and-seed as a
    problem of its own.

    A problem that no arm solved stays in the count, missed by all. An arm that needed nothing (0)
    is best there, and arms that needed something are infinitely far from it.

    Errors: UserError without arms or problems, when an arm lacks a problem, or for a time that is
    negative or not a number.
    """
    problems = sorted({p for row in times.values() for p in row})
    if not problems:
        raise UserError("a performance profile needs at least one arm and one problem.")
    for arm, row in times.items():
        for problem in problems:
            if problem not in row:
                raise UserError(f"arm '{arm}' has no time for '{problem}', which other arms have.")
            if not row[problem] >= 0:
                raise UserError(f"arm '{arm}' has a time of {row[problem]} for '{problem}'.")
    best = {p: min(row[p] for row in times.values()) for p in problems}
    found = {}
    for arm, row in times.items():
        ratios = {p: _ratio(row[p], best[p]) for p in problems}
        solved = sorted(r for r in ratios.values() if math.isfinite(r))
        steps = {r: (i + 1) / len(problems) for i, r in enumerate(solved)}  # ties: the last one
        found[arm] = Profile(ratios, tuple(steps.items()))
    return found


def _ratio(time: float, best: float) -> float:
    if math.isinf(time):
        return math.inf
    if best == 0:
        return 1.0 if time == 0 else math.inf
    return time / best


def area(profile: Profile, largest: float = 4.0, scale: Literal["linear", "log"] = "log") -> float:
    """Area under the profile from ratio 1 to ``largest``, over that of a perfect arm: 0 to 1.

    'linear' with 4 is the score of AlgoPerf (Dahl et al. 2023, arXiv:2306.07179); 'log'
    weighs a halving alike everywhere, which fits arms that are tens of times apart (with a
    ``largest`` to match). A ratio of ``largest`` or more adds nothing.

    Errors: UserError unless largest is finite and above 1.
    """
    if not 1 < largest < math.inf:
        raise UserError(
            f"the area needs a largest ratio that is finite and above 1, not {largest}."
        )
    capped = np.minimum(np.array(list(profile.ratios.values())), largest)
    if scale == "log":
        return float(np.mean(1 - np.log(capped) / math.log(largest)))
    return float(np.mean((largest - capped) / (largest - 1)))
