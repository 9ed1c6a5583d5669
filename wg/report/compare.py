"""The comparison: times to target, speed-ups, final quality, ranking and winner."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from wg.errors import UserError
from wg.measure.metrics import METRICS, metric_info
from wg.measure.stats import RestrictedMean, SpeedUp, restricted_mean, speed_up
from wg.measure.target import Target, crossing
from wg.report.data import Arm, Run, Sweep

FALLBACK_METRIC = "nats_per_sample"  # ranks the arms of a sweep that has no target
WINNERS_SEED_METRIC = "log_mel_l1"  # chooses which of the winner's runs is handed on


@dataclass(frozen=True)
class ArmTimes:
    """Of one arm and one target, by seed: where the target was reached (inf: missed) and what
    the run had spent, on the axes train_seconds, audio_seconds and steps."""

    times: Mapping[str, Mapping[int, float]]
    spent: Mapping[str, Mapping[int, float]]
    mean: RestrictedMean

    @property
    def reached_by_all(self) -> bool:
        return self.mean.missed == 0


@dataclass(frozen=True)
class Comparison:
    """Everything about one target. ``speed_ups`` and ``joint`` (widened so that the intervals
    of all arms hold together) leave the baseline out; ``audio_speed_ups`` counts audio seconds
    in place of time."""

    target: Target
    arms: dict[str, ArmTimes]
    speed_ups: dict[str, SpeedUp]
    joint: dict[str, SpeedUp]
    audio_speed_ups: dict[str, SpeedUp]


@dataclass(frozen=True)
class Winner:
    """``reached``: it was chosen by its time to target, and not by quality for want of one."""

    arm: str
    run: Run
    reached: bool
    rule: str
    seed_rule: str


TIMED_AXES = ("train_seconds", "audio_seconds", "steps")


def arm_times(arm: Arm, target: Target) -> ArmTimes:
    """A run that diverged has missed, whatever its curve did before."""
    times = {
        axis: {
            s: math.inf if r.diverged else crossing(r.curve(axis), target)
            for s, r in sorted(arm.runs.items())
        }
        for axis in TIMED_AXES
    }
    spent = {axis: {s: r.spent[axis] for s, r in sorted(arm.runs.items())} for axis in TIMED_AXES}
    mean = restricted_mean(times["train_seconds"], spent["train_seconds"])
    return ArmTimes(times, spent, mean)


def charged(sweep: Sweep, name: str, times: ArmTimes) -> tuple[dict[int, float], dict[int, float]]:
    """Headline seconds to the target and spent, by seed, as wg.measure's functions take them: a
    run that diverged has spent inf, since more time would not have helped it."""
    runs = sweep.arms[name].runs
    spent = {
        s: math.inf if runs[s].diverged else v for s, v in times.spent["train_seconds"].items()
    }
    return dict(times.times["train_seconds"]), spent


def compare(sweep: Sweep, target: Target) -> Comparison:
    """Times to ``target`` of every arm, and speed-ups over the baseline."""
    arms = {name: arm_times(arm, target) for name, arm in sweep.arms.items()}
    base = arms[sweep.baseline]
    others = [name for name in arms if name != sweep.baseline]

    def against(name: str, axis: str, comparisons: int = 1) -> SpeedUp:
        a = arms[name]
        found = speed_up(
            base.times[axis], a.times[axis], base.spent[axis], a.spent[axis], comparisons
        )
        return unless_diverged(found, sweep.arms[sweep.baseline], sweep.arms[name])

    return Comparison(
        target,
        arms,
        {n: against(n, "train_seconds") for n in others},
        {n: against(n, "train_seconds", len(others)) for n in others},
        {n: against(n, "audio_seconds") for n in others},
    )


def unless_diverged(found: SpeedUp, baseline: Arm, arm: Arm) -> SpeedUp:
    """A run that diverged would not have got there with more time, so what it had spent bounds
    nothing that is worth saying."""
    shared = set(baseline.runs) & set(arm.runs)
    bad = {s for s in shared if baseline.runs[s].diverged or arm.runs[s].diverged}
    if not bad:
        return found
    pairs = {s: v for s, v in found.pairs.items() if s not in bad}
    note = f"a run diverged in {len(bad)} of {found.n} pairs"
    return SpeedUp(None, None, None, "none", "unknown", found.n, pairs, note)


def targets_of(sweep: Sweep, given: Sequence[Mapping[str, Any]] = ()) -> list[Target]:
    """The targets to report, the headline's first: those given, then those that the runs were
    made with, the commonest first.

    Errors: UserError when a given target has no conditions.
    """
    counts = Counter(r.target for r in sweep.runs if r.target is not None)
    found = sorted(counts, key=lambda t: (-counts[t], t.name, t.words()))
    targets: list[Target] = []
    for mapping in given:
        target = Target.from_mapping(mapping)
        if target is None:
            raise UserError("the target given for the report has no conditions: add at least one.")
        targets.append(target)
    return list(dict.fromkeys([*targets, *found]))


def end_of_budget(arm: Arm, metric: str) -> float | None:
    """Mean over seeds of a metric at the last point of the grid; None when a seed diverged or
    has no value there."""
    values = [r.points[-1].metrics.get(metric) if r.finished else None for r in arm.runs.values()]
    kept = [v for v in values if v is not None]
    return fmean(kept) if len(kept) == len(values) else None


def final_mean(arm: Arm, metric: str) -> float | None:
    """Mean over finished seeds on all held-out speech; None when one of them has no value."""
    values = [r.final.get(metric) for r in arm.finished]
    kept = [v for v in values if v is not None]
    return fmean(kept) if kept and len(kept) == len(values) else None


def throughput(run: Run) -> float | None:
    """Audio seconds trained on for each headline second of the run itself (no donor's)."""
    seconds = run.spent["train_seconds"] - run.donor_seconds
    return run.spent["audio_seconds"] / seconds if seconds > 0 else None


def ranking(sweep: Sweep, comparison: Comparison | None) -> list[str]:
    """Arms, the best first, by the rule that :func:`choose_winner` states."""
    metric = _quality_metric(comparison)

    def key(name: str) -> tuple[int, float, str]:
        times = comparison.arms[name] if comparison else None
        if times is not None and times.reached_by_all:
            return 0, times.mean.seconds, name
        value = end_of_budget(sweep.arms[name], metric)
        best = math.inf if value is None else metric_info(metric).best(value)
        return 1, best, name

    return sorted((n for n, a in sweep.arms.items() if a.finished), key=key) + [
        n for n, a in sweep.arms.items() if not a.finished
    ]


def choose_winner(sweep: Sweep, comparison: Comparison | None, ranked: list[str]) -> Winner:
    """The first of the ranking, the rule in words, and which of its runs is handed on."""
    arm = ranked[0]
    metric = _quality_metric(comparison)
    better = "highest" if METRICS[metric].direction == "higher" else "lowest"
    reached = comparison is not None and comparison.arms[arm].reached_by_all
    by_quality = f"the {better} mean {metric} at the end of the budget"
    if comparison is None:
        rule = f"No target was set, so the winner is the arm with {by_quality}."
    elif reached:
        rule = (
            "The winner is the arm with the smallest mean headline time to target, among arms "
            "that reached the target with every seed (the baseline may win too)."
        )
    else:
        rule = (
            "No arm reached the target with every seed, so the winner is the arm with "
            f"{by_quality}; its time to target is not known."
        )

    def final(run: Run) -> tuple[float, int]:
        value = run.final.get(WINNERS_SEED_METRIC)
        return math.inf if value is None else value, run.seed

    run = min(sweep.arms[arm].finished, key=final)
    seed_rule = (
        f"Of its runs, the one with the lowest final {WINNERS_SEED_METRIC} on held-out speech is "
        "handed on; being picked, that run is a little better than its arm can promise."
    )
    return Winner(arm, run, reached, rule, seed_rule)


def _quality_metric(comparison: Comparison | None) -> str:
    return comparison.target.conditions[0].metric if comparison else FALLBACK_METRIC
