"""Targets: the quality that has to be reached, and when a curve reached it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from wg.errors import UserError, nearest
from wg.measure.metrics import METRICS

# (position on some axis, metric -> value or None); positions never decrease
Point = tuple[float, Mapping[str, float | None]]


@dataclass(frozen=True)
class Condition:
    """A metric at least as good as ``value`` (for a signed difference: within +-value)."""

    metric: str
    value: float

    def met(self, found: float | None) -> bool:
        """A missing value never meets it."""
        if found is None or not math.isfinite(found):
            return False
        direction = METRICS[self.metric].direction
        if direction == "lower":
            return found <= self.value
        if direction == "higher":
            return found >= self.value
        return abs(found) <= self.value

    def words(self) -> str:
        info = METRICS[self.metric]
        sign = {"lower": "≤", "higher": "≥", "zero": "within ±"}[info.direction]
        unit = "" if info.unit == "1" else f" {info.unit}"
        return f"{self.metric} {sign} {self.value:g}{unit}"


@dataclass(frozen=True)
class Target:
    """A frozen, named quality threshold: all conditions at once. ``how`` says how it was set;
    ``facts`` are the other keys of its file, kept to be shown."""

    name: str
    conditions: tuple[Condition, ...]
    how: str = ""
    facts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any] | None) -> Target | None:
        """A target from its configuration; None when there is none or it has no conditions.

        Errors: UserError for an unknown metric or a threshold that is not a number.
        """
        if not given or not given.get("conditions"):
            return None
        name = str(given.get("name") or "unnamed")
        conditions = given["conditions"]
        if not isinstance(conditions, Mapping):
            raise UserError(f"target '{name}': conditions must be a mapping of metric to value.")
        rows = []
        for metric, value in conditions.items():
            if metric not in METRICS:
                raise UserError(
                    f"target '{name}' names no metric '{metric}'; {nearest(str(metric), METRICS)}"
                )
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise UserError(f"target '{name}': {metric}={value!r} must be a number.")
            rows.append(Condition(str(metric), float(value)))
        known = ("name", "conditions", "how")
        facts = tuple((str(k), str(v)) for k, v in given.items() if k not in known)
        return cls(name, tuple(rows), str(given.get("how") or ""), facts)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "conditions": {c.metric: c.value for c in self.conditions},
            "how": self.how,
            **dict(self.facts),
        }

    def words(self) -> str:
        return " and ".join(c.words() for c in self.conditions)


def crossing(points: Sequence[Point], target: Target) -> float:
    """Where on the axis the target is met and stays met to the last point; inf when missed.

    A dip below the threshold that does not last is luck, not quality, so it does not count.
    Between two points each metric is taken to run straight; the last condition to be met
    decides. Met already at the first point: that point's position.
    """
    return max((_crossing(points, c) for c in target.conditions), default=math.inf)


def bracket(points: Sequence[Point], target: Target) -> tuple[float, float]:
    """The two neighbouring points between which :func:`crossing` lies, so that it depends on no
    line: (inf, inf) when missed, the first point twice when met there."""
    first = max((_met_from(points, c) for c in target.conditions), default=len(points))
    if first == len(points):
        return math.inf, math.inf
    return points[max(first - 1, 0)][0], points[first][0]


def _met_from(points: Sequence[Point], condition: Condition) -> int:
    """Index of the first point from which on the condition is met to the end."""
    first = len(points)
    while first > 0 and condition.met(points[first - 1][1].get(condition.metric)):
        first -= 1
    return first


def _crossing(points: Sequence[Point], condition: Condition) -> float:
    first = _met_from(points, condition)
    if first == len(points):
        return math.inf
    after, found = points[first]
    if first == 0:
        return after
    before, unmet = points[first - 1]
    value, last = found[condition.metric], unmet.get(condition.metric)
    assert value is not None
    if last is None or not math.isfinite(last):
        return after  # nothing to draw the line from
    threshold = condition.value
    if METRICS[condition.metric].direction == "zero":
        threshold = math.copysign(threshold, last)
    return before + (last - threshold) / (last - value) * (after - before)


def value_at(points: Sequence[Point], metric: str, position: float) -> float | None:
    """The metric at a position of the axis, on the straight line between its neighbours; None
    outside the points or beside a missing value."""
    for (x0, m0), (x1, m1) in itertools.pairwise(points):
        if x0 <= position <= x1 + 1e-9 * max(abs(x1), 1.0):
            a, b = m0.get(metric), m1.get(metric)
            if b is None or (a is None and position < x1):
                return None
            if a is None or x1 == x0:
                return b
            return a + (b - a) * min((position - x0) / (x1 - x0), 1.0)
    return None


def propose_target(
    curves: Mapping[int, Sequence[Point]],
    metrics: Sequence[str],
    at: float,
    name: str,
    how: str,
    of: str = "s of audio",
) -> dict[str, Any]:
    """The mapping to freeze in conf/target: each metric's median over the baseline's seeds at
    ``at`` seconds.

    curves: seed -> points on the axis of those seconds, which ``of`` names in words.
    Values are rounded to 4 significant digits.

    Errors: UserError without curves, for an unknown metric, or a seed without a value there.
    """
    if not curves:
        raise UserError("a target needs at least one finished run of the baseline.")
    conditions = {}
    for metric in metrics:
        if metric not in METRICS:
            raise UserError(f"there is no metric '{metric}'; {nearest(metric, METRICS)}")
        values = []
        for seed, points in sorted(curves.items()):
            end = points[-1][0] if points else 0.0
            if end < at - 1e-6:
                raise UserError(
                    f"seed {seed} ended after {end:g} {of}, before the {at:g} s that are asked "
                    "for: choose less."
                )
            value = value_at(points, metric, at)
            if value is None:
                raise UserError(f"seed {seed} has no {metric} at {at:g} {of}.")
            values.append(value)
        conditions[metric] = float(f"{median(values):.4g}")
    return {"name": name, "conditions": conditions, "how": how}
