"""What a report compares: a sweep of arms, their runs and curves (read by wg.report.read)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wg.measure.clock import Kind
from wg.measure.record import Event
from wg.measure.target import Point, Target

# Axes of a curve: headline seconds with the donor's, process CPU and wall seconds of the run
# alone, audio seconds seen, optimizer steps.
AXES = ("train_seconds", "cpu_seconds", "wall_seconds", "audio_seconds", "steps")


@dataclass(frozen=True)
class GridPoint:
    """A scored snapshot: position on every axis of AXES, metric -> value or None, and what else
    it had taken where that is on record: ``model_flops``, ``joules``."""

    index: int
    at: Mapping[str, float]
    metrics: Mapping[str, float | None]
    cost: Mapping[str, float] = field(default_factory=dict)


def sigma_of(config: Mapping[str, Any]) -> float:
    """Of the likelihood that a run was trained on and is scored by (``evaluation.sigma`` is that
    of generated speech)."""
    return float(config.get("sigma") or 1.0)


@dataclass(frozen=True)
class Run:
    """One run directory.

    kind        its own headline clock; the sweep's may differ
    spent       position on every axis at its end
    final       mean metrics on all held-out speech, with those that follow from others;
                ``utterances``: the same one by one, without those
    ends        name -> metric -> mean on all held-out speech: the ends of the metrics' scales
                (wg.measure.ends), where they are on record
    peak        most memory of a rank: bytes, and of what
    taken       model_flops and joules in all, where they are on record
    joules_of   what the meter of energy counts, or why there is none
    spans       (first, last) Unix seconds of every attempt
    diverged    it failed because its loss left the numbers, which is an outcome of the recipe
                (a miss) and not an accident
    """

    id: str
    path: Path
    arm: str
    seed: int
    status: str
    reason: str
    identity: Mapping[str, Any]
    config: Mapping[str, Any]
    start: Event
    kind: Kind
    donor_seconds: float
    spent: Mapping[str, float]
    points: tuple[GridPoint, ...]
    final: Mapping[str, float | None]
    utterances: Mapping[str, Mapping[str, float | None]]
    ends: Mapping[str, Mapping[str, float | None]]
    samples: Event | None
    peak: Mapping[str, Any]
    joules_of: str
    taken: Mapping[str, float]
    spans: tuple[tuple[float, float], ...]
    attempts: int
    nonfinite: int
    target: Target | None

    @property
    def finished(self) -> bool:
        return self.status == "finished" and bool(self.points)

    @property
    def diverged(self) -> bool:
        return self.status == "failed" and self.reason.startswith("diverged")

    def curve(self, axis: str) -> list[Point]:
        """All metrics against one of AXES."""
        return [(p.at[axis], p.metrics) for p in self.points]

    def cost_curve(self, what: str) -> list[Point] | None:
        """All metrics against ``model_flops`` or ``joules``; None where that was not recorded."""
        if not self.points or any(what not in p.cost for p in self.points):
            return None
        return [(p.cost[what], p.metrics) for p in self.points]


@dataclass
class Arm:
    """The runs of one recipe in this sweep, by seed; those that diverged included."""

    name: str
    runs: dict[int, Run] = field(default_factory=dict)

    @property
    def finished(self) -> list[Run]:
        return [r for _, r in sorted(self.runs.items()) if r.finished]

    @property
    def any_run(self) -> Run:
        return (self.finished or list(self.runs.values()))[0]

    @property
    def strategies(self) -> Mapping[str, str]:
        """Strategy -> its kind (system, algorithm, model)."""
        return self.any_run.start.get("strategies") or {}


@dataclass(frozen=True)
class Excluded:
    """A run that the report leaves out, and why."""

    run: str
    arm: str
    seed: int
    why: str


@dataclass(frozen=True)
class Sweep:
    """What a report compares. ``kind``: the headline clock of the whole comparison."""

    path: Path
    name: str
    kind: Kind
    mixed_kinds: bool
    arms: dict[str, Arm]
    baseline: str
    excluded: tuple[Excluded, ...]

    @property
    def runs(self) -> list[Run]:
        return [r for a in self.arms.values() for _, r in sorted(a.runs.items())]
