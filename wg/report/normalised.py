"""Normalised time: what an arm's steps for the audio that it had to see take when all arms make
theirs in turns (``wg bench arms``), with the compilation, the preparation and the donor that its
own run was charged. Machines are shared: a run that had a quiet hour is not a better recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wg.measure.ratio import log_error, paired_ratio
from wg.measure.stats import restricted_mean, speed_up, widened
from wg.report.compare import Comparison, unless_diverged
from wg.report.data import Arm, Run, Sweep
from wg.report.plain import by_seed, speed_up_values
from wg.report.throughput import refusal_of, rounds_of, row_of, seconds_for

# Beyond it the runs' own seconds and the interleaved benchmark say different things.
_APART = 1.1


def normalised_of(
    sweep: Sweep, comparison: Comparison | None, findings: Mapping[str, Any]
) -> dict[str, Any]:
    """As the docstring of wg.report.results lists it. ``elsewhere`` says why there are no times:
    the arms were timed on another machine, or by another clock, than they were trained on."""
    elsewhere = _elsewhere(sweep, findings)
    if elsewhere:
        comparison = None
    facts = {k: findings.get(k) for k in ("command", "complete", "date", "commit", "machine")}
    facts["machine"] = {"gpu": None, "cpu": None, "threads": None, **(facts["machine"] or {})}
    base = _normalised_times(sweep, sweep.baseline, comparison, findings)
    beside = row_of(findings, _ids(sweep, sweep.baseline))
    arms: dict[str, dict[str, Any]] = {}
    for name in sweep.arms:
        ids = _ids(sweep, name)
        row = row_of(findings, ids)
        if row is None:
            arms[name] = {"refused": refusal_of(findings, ids)}
            continue
        times = _normalised_times(sweep, name, comparison, findings)
        arms[name] = {
            "refused": None,
            **{
                k: row[k]
                for k in ("audio_seconds_per_second", "flops_per_second",
                          "arithmetic", "gemm_flops_per_second", "share_of_peak", "finite")
            },
            "relative": _relative(beside, row),
            "time_to_target": _described(times),
            "speed_up": _speed_up_of(sweep, name, base, times, beside, row),
        }  # fmt: skip
    return {
        **facts, "rounds": findings.get("rounds"), "elsewhere": elsewhere, "arms": arms
    }  # fmt: skip


def _ids(sweep: Sweep, name: str) -> list[str]:
    return [r.id for r in sweep.arms[name].runs.values()]


def _elsewhere(sweep: Sweep, findings: Mapping[str, Any]) -> str | None:
    clocks = {row["clock"] for row in findings["arms"].values() if not row["refused"]}
    if clocks - {sweep.kind}:
        timed = " and ".join(sorted(clocks))
        return f"the arms were timed by {timed} seconds, the runs by {sweep.kind}"
    there = findings.get("machine") or {}
    for key in ("gpu", "cpu"):
        here = {str((r.start.get("machine") or {}).get(key)) for r in sweep.runs if r.start}
        if here != {str(there.get(key))}:
            where = ", ".join(sorted(here))
            return f"the arms were timed on {there.get(key)}, the runs trained on {where}"
    return None


def _relative(base: Mapping[str, Any] | None, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many times as fast as the baseline, paired round by round."""
    if base is None:
        return None
    return vars(paired_ratio(rounds_of(base), rounds_of(row)))


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


def _speed_up_of(
    sweep: Sweep,
    name: str,
    base: Times | None,
    times: Times | None,
    beside: Mapping[str, Any] | None,
    row: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Its interval has the error of the seeds and that of the rates, which all seeds share."""
    if base is None or times is None or beside is None or name == sweep.baseline:
        return None
    turns = rounds_of(beside), rounds_of(row)
    found = widened(
        speed_up(base[0], times[0], base[1], times[1]), log_error(*turns), len(turns[0])
    )
    return speed_up_values(unless_diverged(found, sweep.arms[sweep.baseline], sweep.arms[name]))


def normalised_warnings(sweep: Sweep, normalised: Mapping[str, Any] | None) -> Iterator[str]:
    """Where the benchmark does not count, is short, or disagrees with the runs' own clocks."""
    if normalised is None:
        return
    if normalised["elsewhere"]:
        yield f"There is no normalised time: {normalised['elsewhere']}."
        return
    if not normalised["complete"] or normalised["rounds"] < 6:
        yield (
            f"`wg bench arms` made {normalised['rounds']} rounds, of which six make an interval."
        )
    rates = {n: _audio_rate(arm) for n, arm in sweep.arms.items()}
    base = rates[sweep.baseline]
    for name, row in normalised["arms"].items():
        own = rates[name]
        if row["refused"]:
            continue
        if not row["finite"]:
            yield f"The loss of {name} was not finite while its throughput was measured."
        if name == sweep.baseline or not base or not own or not row["relative"]:
            continue
        turns = row["relative"]["median"]
        if not 1 / _APART < own / base / turns < _APART:
            yield (
                f"By its runs' own clocks {name} is {own / base:.2f} times as fast through audio "
                f"as {sweep.baseline}, measured in turns {turns:.2f} times: the machine was not "
                "the same for both, or a part of the loop that the benchmark leaves out (data, "
                "logging) weighs on one of them. Normalised time goes by the turns."
            )


def _audio_rate(arm: Arm) -> float | None:
    """Audio seconds for each second of steps, over all seeds."""
    audio = sum(r.spent["audio_seconds"] for r in arm.finished)
    seconds = sum(r.spent["train_seconds"] - _fixed(r) for r in arm.finished)
    return audio / seconds if seconds > 0 else None
