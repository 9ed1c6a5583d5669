"""Times to target are read off a grid of snapshots: what does that do to the speed-up?

    python -m wg.measure.coverage_crossing -o reports/statistics/crossing.json

writes the JSON and, beside it, the same as Markdown; see ``wg.measure.simulate``, whose studies
begin where times to target are known.

A run's curve is START - SLOPE ln(1 + a / (BEND e^v)) after ``a`` seconds of audio, v normal over
runs with standard deviation sd: the same curve for all runs but for its pace, which makes log times
to target normal with that spread. An arm's curve is the baseline's at ``factor`` times the pace.
What a snapshot shows may lie off the curve, by noise of its own. Start, slope and bend are a least
squares fit to the baseline's five curves of nats per sample in reports/reference/results.json,
around which snapshots after 150 s vary with standard deviations of 0.09 to 0.24; the target is the
curve's value at 840 s, as asterisk-840s is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wg.measure.coverage import SCENARIOS, Row, cells
from wg.measure.coverage_tables import joined, origin, pivot, share
from wg.measure.simulate import command_line, facts
from wg.measure.stats import speed_up
from wg.measure.target import Condition, Target, crossing

START, SLOPE, BEND = 0.93, 0.64, 6.4  # nats per sample, the same, audio seconds
REACHED = 840.0  # audio seconds to the target of the median baseline run
BUDGET = 4200  # audio seconds, of all runs: at the larger spread 4.6 standard deviations away
NOISES = (0.0, 0.1)  # nats per sample, of a snapshot around its run's curve
FACTORS = (3.0, 30.0)
METRIC = "nats_per_sample"


@dataclass(frozen=True)
class Grid:
    """``every`` and ``also`` as in the configuration's snapshots."""

    name: str
    every: int
    also: tuple[int, ...] = ()

    @property
    def points(self) -> np.ndarray:
        """Audio seconds of the snapshots, (P,)."""
        return np.array(sorted({*range(0, BUDGET + 1, self.every), *self.also}), dtype=float)


GRIDS = (
    Grid("every 60 s, early ones denser (as reports/reference)", 60,
         (2, 4, 8, 16, 24, 32, 40, 50, 80, 100)),
    Grid("every 20 s", 20),
    Grid("every 60 s", 60),
)  # fmt: skip


def curve(audio: np.ndarray, pace: np.ndarray) -> np.ndarray:
    """Nats per sample after ``audio`` (P,) seconds of runs whose times are exp(``pace``) (R, 1)
    times the median run's: (R, P)."""
    return START - SLOPE * np.log1p(audio / (BEND * np.exp(pace)))


TARGET = Target("simulated", (Condition(METRIC, float(curve(np.array(REACHED), np.array(0.0)))),))


def crossing_coverage(sims: int, seed: int) -> list[Row]:
    """Of arms and baselines of n runs each with seeds shared (c = 0.5), on each grid:

    bias       geometric mean of speed-up found / that of the same runs' true times; 1: none
    coverage   how often the 95% t-interval holds the true one
    late       geometric mean of time found / true time, of the baseline's runs and of the arm's
    missed     share of studies with a run that ends off the target, as noise may have it at the
               last snapshot; they are left out of the other numbers
    """
    rows = []
    for i, grid in enumerate(GRIDS):
        for j, factor in enumerate(FACTORS):
            for k, noise in enumerate(NOISES):
                for cell in cells():
                    rng = cell.rng(seed, 11, i, j, k)
                    pace = SCENARIOS[0].draw(rng, sims, 1, cell.n, cell.sd)
                    pace[:, 1] -= math.log(factor)
                    found = _times(rng, grid.points, pace, noise)
                    rows.append(
                        cell.row(grid=grid.name, factor=factor, noise=noise,
                                 **_compared(found, REACHED * np.exp(pace), factor))
                    )  # fmt: skip
    return rows


def _times(
    rng: np.random.Generator, points: np.ndarray, pace: np.ndarray, noise: float
) -> np.ndarray:
    """Times to target (S, 2, n) as :func:`wg.measure.target.crossing` finds them."""
    values = curve(points, pace.reshape(-1, 1))
    values += noise * rng.standard_normal(values.shape)
    at = points.tolist()
    found = [
        crossing([(a, {METRIC: v}) for a, v in zip(at, row, strict=True)], TARGET)
        for row in values.tolist()
    ]
    return np.array(found).reshape(pace.shape)


def _compared(found: np.ndarray, true: np.ndarray, factor: float) -> dict[str, Any]:
    """Of times (S, 2, n), as found and as they are."""
    met = np.isfinite(found).all(axis=(1, 2))
    held = []
    for study in found[met]:
        base, arm = (dict(enumerate(row.tolist())) for row in study)
        s = speed_up(base, arm, {}, {})
        assert s.low is not None
        assert s.high is not None
        held.append(s.low <= factor <= s.high)
    late = np.log(found[met] / true[met]).mean(axis=(0, 2))
    return {
        "bias": math.exp(late[0] - late[1]),
        "coverage": float(np.mean(held)),
        "late": np.exp(late).tolist(),
        "missed": float(1 - met.mean()),
    }


def run_study(simulations: int, seed: int) -> dict[str, Any]:
    """The study, with what determines it; a fifth of ``simulations`` for each row.

    Errors: UserError for fewer than 100.
    """
    return {
        **facts("wg.measure.coverage_crossing", simulations, seed),
        "curve": {"start": START, "slope": SLOPE, "bend": BEND, "target_at": REACHED},
        "crossings": crossing_coverage(simulations // 5, seed),
    }


def markdown(found: dict[str, Any]) -> str:
    """The tables of :func:`run_study`'s result."""
    rows = found["crossings"]
    keys = ("grid", "factor", "noise")
    return joined(
        "# Times to target read off a grid, simulated",
        f"{origin(found)} {found['simulations'] // 5:,} simulations a cell. A target that "
        f"the median baseline run reaches after {REACHED:.0f} s of audio, and an arm that is "
        "`factor` times sooner; noise: nats per sample, of a snapshot around its run's curve; sd: "
        "of log time over seeds. Studies with a run that ends off the target by noise are left "
        f"out (at most {max(r['missed'] for r in rows):.1%}).",
        "## Speed-up found / true speed-up",
        "Geometric mean, the true one that of the same runs; 1: no bias, below 1: too low.",
        pivot(rows, keys, lambda r: f"{r['bias']:.3f}"),
        "## 95% t-intervals of the speed-up",
        "Share that hold the true one; * outside 93% to 97%.",
        pivot(rows, keys, lambda r: share(r["coverage"])),
        "## How late the target is found",
        "Geometric mean of time found / true time: of the baseline's runs / of the arm's.",
        pivot(rows, keys, lambda r: " / ".join(f"{v:.2f}" for v in r["late"])),
    )


if __name__ == "__main__":
    command_line("wg.measure.coverage_crossing", __doc__, run_study, markdown)
