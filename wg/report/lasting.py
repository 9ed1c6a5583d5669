"""Does a lead last? Times to what the baseline itself had learned when its budget ended.

A target that was set beforehand is easy for an arm that starts near it, whose factor then measures
a start. The baseline's own end is the latest mark that a sweep holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from wg.measure.stats import speed_up
from wg.measure.target import Condition, Target, bracket, crossing
from wg.report.compare import unless_diverged
from wg.report.data import Run, Sweep
from wg.report.plain import by_seed, speed_up_values

METRICS = ("nats_per_sample", "log_mel_l1")


def lasting_of(sweep: Sweep) -> dict[str, Any] | None:
    """What every arm took to the quality that the baseline has at its last snapshot, both metrics
    of METRICS at once, seed by seed: each pair has its own mark. None without another arm, or
    where the baseline has no such quality on record.

    ``speed_up`` draws a straight line between the snapshots around the crossing, ``between``
    (headline seconds) are these snapshots, and ``at_least`` is the speed-up to the later one: what
    the grid shows without any line.
    """
    base = sweep.arms[sweep.baseline]
    marks = {s: mark for s, r in sorted(base.runs.items()) if (mark := _end(r)) is not None}
    if not marks or len(sweep.arms) == 1:
        return None

    def times(arm: str, of: Callable[[Run, Target], float]) -> dict[int, float]:
        runs = sweep.arms[arm].runs
        shared = [s for s in sorted(runs) if s in marks]
        return {s: math.inf if runs[s].diverged else of(runs[s], marks[s]) for s in shared}

    def spent(arm: str) -> dict[int, float]:
        return {s: r.spent["train_seconds"] for s, r in sorted(sweep.arms[arm].runs.items())}

    def against(arm: str, of: Callable[[Run, Target], float]) -> dict[str, Any] | None:
        found = speed_up(
            times(sweep.baseline, _crossed), times(arm, of), spent(sweep.baseline), spent(arm)
        )
        return speed_up_values(unless_diverged(found, base, sweep.arms[arm]))

    others = [n for n in sweep.arms if n != sweep.baseline]
    return {
        "marks": {str(s): {c.metric: c.value for c in t.conditions} for s, t in marks.items()},
        "arms": {
            n: {
                "seconds": by_seed(times(n, _crossed)),
                "between": {str(s): _between(sweep.arms[n].runs[s], marks[s])
                            for s in times(n, _crossed)},
                "speed_up": against(n, _crossed),
                "at_least": against(n, _after),
            }
            for n in others
        },
        "baseline_seconds": by_seed(times(sweep.baseline, _crossed)),
    }  # fmt: skip


def _end(run: Run) -> Target | None:
    """The quality at a finished run's last snapshot."""
    if not run.finished:
        return None
    found: Mapping[str, float | None] = run.points[-1].metrics
    values = {m: found.get(m) for m in METRICS}
    conditions = [Condition(m, v) for m, v in values.items() if v is not None and math.isfinite(v)]
    return Target("end", tuple(conditions)) if len(conditions) == len(METRICS) else None


def _crossed(run: Run, mark: Target) -> float:
    return crossing(run.curve("train_seconds"), mark)


def _after(run: Run, mark: Target) -> float:
    return bracket(run.curve("train_seconds"), mark)[1]


def _between(run: Run, mark: Target) -> list[float] | None:
    """None for a miss."""
    found = bracket(run.curve("train_seconds"), mark)
    return None if run.diverged or math.isinf(found[1]) else list(found)
