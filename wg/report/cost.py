"""The ``cost`` of results.json: what reaching the target took beside its seconds.

Model FLOPs, joules and money until the target is met, the rate of model FLOPs, peak memory, and
normalised time (:mod:`wg.report.normalised`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from wg.measure.stats import restricted_mean
from wg.measure.target import Point, crossing
from wg.report.compare import Comparison
from wg.report.data import Arm, Run, Sweep
from wg.report.normalised import normalised_of
from wg.report.plain import by_seed

BY_SEED = ("model_flops", "joules", "money")


def cost_of(
    sweep: Sweep,
    comparison: Comparison | None,
    findings: Mapping[str, Any] | None,
    price: float | None,
) -> dict[str, Any]:
    """As the docstring of wg.report.results lists it. ``findings``: of ``wg bench arms``;
    ``price``: of an hour of one rank's device."""
    arms = {
        name: {
            **{what: _to_target(arm, comparison, what, price) for what in BY_SEED},
            "flops_per_second": _rate(arm),
            "peak_memory": _peak(arm),
        }
        for name, arm in sweep.arms.items()
    }
    meters = sorted({r.joules_of for r in sweep.runs if r.points})
    return {
        "price": price,
        "energy_meters": meters,
        "arms": arms,
        "normalised": None if findings is None else normalised_of(sweep, comparison, findings),
    }


# -- to the target -----------------------------------------------------------------------------


def _to_target(
    arm: Arm, comparison: Comparison | None, what: str, price: float | None
) -> dict[str, Any] | None:
    """By seed: spent when the target was met (None: missed) and in all, and their mean, a miss
    counting as all that its run spent. None where nothing is known."""
    times, spent = {}, {}
    for seed, run in sorted(arm.runs.items()):
        curve, used = _curve(run, what, price), _spent(run, what, price)
        if used is None or (curve is None and run.finished):
            return None
        spent[seed] = used
        if comparison is None:
            times[seed] = used
        elif curve is None or run.diverged:
            times[seed] = math.inf
        else:
            times[seed] = crossing(curve, comparison.target)
    mean = restricted_mean(times, spent)
    return {
        "seeds": by_seed(times),
        "spent": {str(s): v for s, v in spent.items()},
        "mean": mean.seconds,
        "missed": mean.missed,
    }


def _curve(run: Run, what: str, price: float | None) -> list[Point] | None:
    """All metrics against what was taken; None where that is not on record."""
    if what != "money":
        return run.cost_curve(what)
    if price is None or not run.points:
        return None
    return [(at * _a_second(run, price), metrics) for at, metrics in run.curve("wall_seconds")]


def _spent(run: Run, what: str, price: float | None) -> float | None:
    if what != "money":
        return run.taken.get(what)
    return None if price is None else run.spent["wall_seconds"] * _a_second(run, price)


def _a_second(run: Run, price: float) -> float:
    """Money of a second of all ranks."""
    return price * int(run.start.get("ranks") or 1) / 3600


def _rate(arm: Arm) -> float | None:
    """Model FLOPs for each headline second of the runs themselves, mean over seeds."""
    rates = []
    for run in arm.finished:
        curve = run.cost_curve("model_flops")
        seconds = run.spent["train_seconds"] - run.donor_seconds
        if curve and seconds > 0:
            rates.append(curve[-1][0] / seconds)
    return fmean(rates) if rates else None


def _peak(arm: Arm) -> dict[str, Any] | None:
    """The largest over seeds: bytes of one rank, of what, and how many ranks there are."""
    peaks = [r.peak for r in arm.finished if r.peak]
    if not peaks:
        return None
    return {**max(peaks, key=lambda p: p["bytes"]), "ranks": arm.any_run.start.get("ranks")}
