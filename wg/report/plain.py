"""What was compared, as the plain values of ``results.json``: infinite times are None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from wg.measure.metrics import metric_info
from wg.measure.stats import SpeedUp
from wg.measure.target import Target
from wg.report.compare import ArmTimes, Comparison

NO_TIMING: dict[str, Any] = {
    "time_to_target": None,
    "speed_up": None,
    "speed_up_all_arms": None,
    "audio_speed_up": None,
}


def timing(name: str, c: Comparison) -> dict[str, Any]:
    """Time to the comparison's target of one arm, and its speed-ups."""
    times: ArmTimes = c.arms[name]
    return {
        "time_to_target": {
            "seconds": by_seed(times.times["train_seconds"]),
            "spent_seconds": by_seed(times.spent["train_seconds"]),
            "audio_seconds": by_seed(times.times["audio_seconds"]),
            "steps": by_seed(times.times["steps"]),
            "reached": times.mean.reached,
            "missed": times.mean.missed,
            "restricted_mean_seconds": times.mean.seconds,
            "restricted_mean_is_lower_bound": times.mean.is_lower_bound,
        },
        "speed_up": speed_up_values(c.speed_ups.get(name)),
        "speed_up_all_arms": speed_up_values(c.joint.get(name)),
        "audio_speed_up": speed_up_values(c.audio_speed_ups.get(name)),
    }


def speed_up_values(s: SpeedUp | None) -> dict[str, Any] | None:
    """Its fields, None for none; keys of JSON are texts."""
    if s is None:
        return None
    return {**asdict(s), "pairs": {str(k): v for k, v in s.pairs.items()}}


def by_seed(values: Mapping[int, float]) -> dict[str, float | None]:
    """A miss (inf) is None."""
    return {str(s): None if math.isinf(v) else v for s, v in sorted(values.items())}


def target_values(target: Target) -> dict[str, Any]:
    """Name, conditions with their units, and how it was set."""
    return {
        "name": target.name,
        "words": target.words(),
        "conditions": [
            {
                "metric": c.metric,
                "value": c.value,
                "unit": metric_info(c.metric).unit,
                "direction": metric_info(c.metric).direction,
            }
            for c in target.conditions
        ],
        "how": target.how,
        "facts": dict(target.facts),
    }
