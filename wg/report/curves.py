"""Curves over runs: the share that reached the target by when, and performance profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from wg.errors import UserError
from wg.measure.profile import area, performance_profiles
from wg.measure.survival import (
    Survival,
    kaplan_meier,
    restricted_mean_ratio,
    restricted_mean_time,
    shared_tau,
)
from wg.report.compare import Comparison, charged
from wg.report.data import Sweep


def survival_of(sweep: Sweep, comparison: Comparison) -> dict[str, Any] | None:
    """Kaplan-Meier curve of every arm, restricted mean up to the tau that all share, and, where a
    run of the arm or of the baseline missed and one of them got there by tau, the ratio of
    restricted means. None for one run an arm that all reached it: the table says as much."""
    if all(len(a.runs) == 1 for a in sweep.arms.values()) and not any(
        t.mean.missed for t in comparison.arms.values()
    ):
        return None
    curves = {n: kaplan_meier(*charged(sweep, n, t)) for n, t in comparison.arms.items()}
    tau = shared_tau(curves)
    base = curves[sweep.baseline]
    arms = {}
    for name, curve in curves.items():
        missed = bool(curve.censored or base.censored) and name != sweep.baseline
        arms[name] = {
            "steps": [asdict(s) for s in curve.steps],
            "censored": list(curve.censored),
            "n": curve.n,
            "horizon": curve.horizon,
            "median": curve.median,
            "restricted_mean": _mean(curve, tau),
            "ratio": _ratio(base, curve, tau) if missed else None,
        }
    return {"tau": tau, "level": base.level, "band": base.band, "arms": arms}


def _mean(curve: Survival, tau: float) -> dict[str, Any] | None:
    """None where there is no time to average over: the target was met at the start."""
    try:
        return asdict(restricted_mean_time(curve, tau))
    except UserError:
        return None


def _ratio(baseline: Survival, arm: Survival, tau: float) -> dict[str, Any] | None:
    if not any(s.events and s.time < tau for c in (baseline, arm) for s in c.steps):
        return None  # two arms without a single success are alike only by what is not known
    try:
        return asdict(restricted_mean_ratio(baseline, arm, tau))
    except UserError:
        return None


def profile_of(comparisons: Sequence[Comparison]) -> dict[str, Any] | None:
    """Performance profiles over targets x the seeds that all arms share (over targets with their
    geometric mean time where they share none). None with fewer than two targets or arms."""
    if len(comparisons) < 2 or len(comparisons[0].arms) < 2:
        return None
    names = list(comparisons[0].arms)
    seeds = set.intersection(*(set(comparisons[0].arms[n].spent["steps"]) for n in names))
    times: dict[str, dict[str, float]] = {n: {} for n in names}
    for i, c in enumerate(comparisons):
        for name in names:
            found = c.arms[name].times["train_seconds"]
            if seeds:
                times[name] |= {f"{i + 1}, seed {s}": found[s] for s in sorted(seeds)}
            else:
                times[name][f"{i + 1}"] = _geometric_mean(list(found.values()))
    profiles = performance_profiles(times)
    ratios = [r for p in profiles.values() for r in p.ratios.values() if math.isfinite(r)]
    largest = next((v for v in (4.0, 16.0, 64.0) if max(ratios, default=1) < v), 256.0)
    return {
        "targets": [c.target.name for c in comparisons],
        "seeds": sorted(seeds),
        "problems": len(next(iter(times.values()))),
        "largest_ratio": largest,
        "arms": {
            name: {
                "ratios": dict(p.ratios),
                "steps": [list(s) for s in p.steps],
                "best": p.share_within(1.0),
                "within_2": p.share_within(2.0),
                "solved": p.share_within(math.inf),
                "area": area(p, largest),
            }
            for name, p in profiles.items()
        },
    }


def _geometric_mean(values: Sequence[float]) -> float:
    if math.inf in values:
        return math.inf
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, values)) / len(values))
