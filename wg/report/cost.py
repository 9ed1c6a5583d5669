"""The ``cost`` of results.json: what reaching the target took beside its seconds.

Model FLOPs, joules and money until the target is met, the rate of model FLOPs and its share of what
the machine's matrix products reach, peak memory, and normalised time: what an arm's steps for the
audio it had to see take when all arms share the machine fairly (``wg bench arms``), with the
compilation, the preparation and the donor that its own run was charged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from wg.measure.stats import restricted_mean, speed_up
from wg.measure.target import crossing
from wg.report.compare import Comparison
from wg.report.data import Arm, Run, Sweep
from wg.report.plain import by_seed, speed_up_values
from wg.report.throughput import refusal_of, row_of, seconds_for

BY_SEED = ("model_flops", "joules", "money")
# Beyond it the runs' own seconds and the interleaved benchmark say different things.
_APART = 1.1


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
        "normalised": None if findings is None else _normalised(sweep, comparison, findings),
    }


# -- to the target -----------------------------------------------------------------------------


def _to_target(
    arm: Arm, comparison: Comparison | None, what: str, price: float | None
) -> dict[str, Any] | None:
    """By seed: spent when the target was met (None: missed) and in all, and their mean, a miss
    counting as all that its run spent. None where nothing is known."""
    times, spent = {}, {}
    for seed, run in sorted(arm.runs.items()):
        curve = _money(run, price) if what == "money" else run.cost_curve(what)
        if not curve:
            return None
        spent[seed] = curve[-1][0]
        missed = comparison is None or run.diverged
        times[seed] = math.inf if missed else crossing(curve, comparison.target)  # type: ignore[union-attr]
    mean = restricted_mean(times, spent)
    return {
        "seeds": by_seed(times),
        "spent": {str(s): v for s, v in spent.items()},
        "mean": mean.seconds,
        "missed": mean.missed,
    }


def _money(run: Run, price: float | None) -> list[tuple[float, Any]] | None:
    """Metrics against the price of the headline's wall seconds on all ranks."""
    if price is None:
        return None
    an_hour = price * int(run.start.get("ranks") or 1)
    return [(at / 3600 * an_hour, metrics) for at, metrics in run.curve("wall_seconds")]


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


# -- normalised time ---------------------------------------------------------------------------


def _normalised(
    sweep: Sweep, comparison: Comparison | None, findings: Mapping[str, Any]
) -> dict[str, Any]:
    facts = {k: findings.get(k) for k in ("command", "complete", "date", "commit", "machine")}
    facts["machine"] = {"gpu": None, "cpu": None, "threads": None, **(facts["machine"] or {})}
    base = _normalised_times(sweep, sweep.baseline, comparison, findings)
    arms: dict[str, dict[str, Any]] = {}
    for name, arm in sweep.arms.items():
        ids = [r.id for r in arm.runs.values()]
        row = row_of(findings, ids)
        if row is None:
            arms[name] = {"refused": refusal_of(findings, ids)}
            continue
        times = _normalised_times(sweep, name, comparison, findings)
        arms[name] = {
            "refused": None,
            **{
                k: row[k]
                for k in ("audio_seconds_per_second", "relative", "flops_per_second",
                          "arithmetic", "gemm_flops_per_second", "share_of_peak", "finite")
            },
            "time_to_target": _described(times),
            "speed_up": _speed_up_of(base, times) if name != sweep.baseline else None,
        }  # fmt: skip
    return {**facts, "rounds": findings.get("rounds"), "arms": arms}


Times = tuple[dict[int, float], dict[int, float]]


def _normalised_times(
    sweep: Sweep, name: str, comparison: Comparison | None, findings: Mapping[str, Any]
) -> Times | None:
    """(seconds to the target, seconds of the whole run), by seed."""
    runs = sweep.arms[name].runs
    row = row_of(findings, [r.id for r in runs.values()])
    if row is None or comparison is None:
        return None
    audio = comparison.arms[name].times["audio_seconds"]
    spent = comparison.arms[name].spent["audio_seconds"]
    fixed = {s: _fixed(run) for s, run in runs.items()}
    return (
        {s: fixed[s] + seconds_for(row, audio[s]) for s in runs},
        {s: fixed[s] + seconds_for(row, spent[s]) for s in runs},
    )


def _fixed(run: Run) -> float:
    """Headline seconds that no step explains: they were spent before the first one."""
    untrained = [p.at["train_seconds"] for p in run.points if p.at["steps"] == 0]
    return untrained[0] if untrained else run.donor_seconds


def _described(times: Times | None) -> dict[str, Any] | None:
    if times is None:
        return None
    mean = restricted_mean(*times)
    return {
        "seconds": by_seed(times[0]),
        "mean": mean.seconds,
        "missed": mean.missed,
    }


def _speed_up_of(base: Times | None, times: Times | None) -> dict[str, Any] | None:
    if base is None or times is None:
        return None
    return speed_up_values(speed_up(base[0], times[0], base[1], times[1]))


def cost_warnings(sweep: Sweep, cost: Mapping[str, Any]) -> Iterator[str]:
    """Where the runs' own clocks and the interleaved benchmark disagree: neighbours, or a machine
    that was not the same all the time, favoured an arm."""
    if cost["normalised"] is None:
        return
    rates = {n: _audio_rate(arm) for n, arm in sweep.arms.items()}
    base = rates[sweep.baseline]
    for name, row in cost["normalised"]["arms"].items():
        own = rates[name]
        if row["refused"] or name == sweep.baseline or not base or not own:
            continue
        apart = (own / base) / row["relative"]["median"]
        if not 1 / _APART < apart < _APART:
            whom = name if apart > 1 else sweep.baseline
            yield (
                f"By its runs' own clocks {name} is {own / base:.2f} times as fast through audio "
                f"as {sweep.baseline}, measured in turns it is {row['relative']['median']:.2f} "
                f"times: the machine favoured {whom}; normalised time allows for that."
            )
        if not row["finite"]:
            yield f"The loss of {name} was not finite while its throughput was measured."


def _audio_rate(arm: Arm) -> float | None:
    """Audio seconds for each second of steps, over all seeds."""
    audio = sum(r.spent["audio_seconds"] for r in arm.finished)
    seconds = sum(r.spent["train_seconds"] - _fixed(r) for r in arm.finished)
    return audio / seconds if seconds > 0 else None
