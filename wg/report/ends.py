"""The ends of the metrics' scales (``wg score RUN --ends``), as the page shows them below its arms.

They are of the corpus' held-out speech and of no model, so that one run's hold for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from wg.measure.metrics import SHOWN
from wg.report.data import Sweep

# Name on record -> what it is. Others (a newer record's) are shown by their names.
LABELS = {
    "ground_truth": "recordings",
    "griffin_lim": "Griffin-Lim",
    "noise_lpc": "noise through the mel's filters",
    "noise_lpc_consistent": "that noise, fitted to the mel",
}
# Libraries and kinds of CPU differ by rounding, which PESQ and Griffin-Lim pass on; the page has
# three decimals.
_ROUNDING = 1e-3

Ends = dict[str, dict[str, float | None]]


def ends_of(sweep: Sweep) -> Ends:
    """Name -> metric -> mean, of all runs together; where several have the same, the first run's
    value. In the order of LABELS and of the metrics; empty where no run has any."""
    found: Ends = {}
    for run in sweep.runs:
        for name, values in run.ends.items():
            mine = found.setdefault(name, {})
            for metric, value in values.items():
                if mine.get(metric) is None:
                    mine[metric] = value
    return {
        name: {m: found[name][m] for m in _first(SHOWN, found[name])}
        for name in _first(LABELS, found)
    }


def _first(known: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [n for n in known if n in found] + sorted(set(found) - set(known))


def ends_warnings(sweep: Sweep) -> Iterator[str]:
    """One sentence where runs disagree by more than rounding."""
    known: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for run in sweep.runs:
        for name, values in run.ends.items():
            for metric, value in values.items():
                if value is not None:
                    known.setdefault((name, metric), []).append((run.id, value))
    apart = {
        what: found
        for what, found in known.items()
        if not all(
            math.isclose(v, found[0][1], rel_tol=_ROUNDING, abs_tol=_ROUNDING) for _, v in found
        )
    }
    if apart:
        (name, metric), found = next(iter(apart.items()))
        others = f", and {len(apart) - 1} more values" if len(apart) > 1 else ""
        yield (
            "Runs disagree about the ends of the scale, which one corpus has once: "
            f"{metric} of {LABELS.get(name, name)} is "
            + ", ".join(f"{v:.4g} by {run}" for run, v in found[:4])
            + f"{others}; shown is the first."
        )
