"""Do the intervals of the interleaved benchmark, and of times normalised by it, hold what they say?

Studies like those of ``wg.measure.coverage``. In a round every arm has one turn; a log turn is
log(true seconds) + what slows the machine down in that round + the turn's own noise. The committed
benchmark (reports/reference/runs/throughput.json, 9 rounds) has log ratios of turns of one round
whose standard deviations are 0.10 to 0.26, the middle one 0.12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from wg.measure.coverage import SCENARIOS, TRUE_FACTOR, Row, cells
from wg.measure.ratio import Ratio, log_error, paired_ratio
from wg.measure.stats import speed_up, widened

RATIO_SD = 0.12  # of the log ratio of two turns of a round
ROUNDS = (3, 5, 6, 9, 15)
NORMALISED_ROUNDS = (9, 36)
DRIFT = 0.1  # sd of what a round does to all arms' log turns


@dataclass(frozen=True)
class Machine:
    """How turns vary. interrupted: share of turns that take ``slow`` times as long. spell: the
    correlation of an arm's own noise from one round to the next."""

    name: str
    interrupted: float = 0.0
    slow: float = 1.0
    spell: float = 0.0

    def draw(self, rng: np.random.Generator, sims: int, rounds: int) -> np.ndarray:
        """Log turns (sims, 2, rounds) of median 0, or the same median for both arms."""
        own = rng.standard_normal((sims, 2, rounds)) * RATIO_SD / math.sqrt(2)
        for r in range(1, rounds):  # an autoregression that keeps the standard deviation
            own[..., r] *= math.sqrt(1 - self.spell**2)
            own[..., r] += self.spell * own[..., r - 1]
        drift = DRIFT * rng.standard_normal((sims, 1, rounds))
        late = rng.random((sims, 2, rounds)) < self.interrupted
        return own + drift + math.log(self.slow) * late


MACHINES = (
    Machine("rounds alike"),
    Machine("1 turn in 10 takes 1.5 times", interrupted=0.1, slow=1.5),
    Machine("neighbouring rounds correlated 0.3", spell=0.3),
    Machine("neighbouring rounds correlated 0.6", spell=0.6),
)


def ratio_coverage(sims: int, seed: int) -> list[Row]:
    """How often the interval of a paired ratio holds the true one, and what it claims to."""
    rows = []
    for index, machine in enumerate(MACHINES):
        for n in ROUNDS:
            turns = np.exp(machine.draw(np.random.default_rng([seed, 9, index, n]), sims, n))
            found = [_paired(t) for t in turns]
            held = [f.low <= TRUE_FACTOR <= f.high for f in found]
            width = float(np.median([f.high / f.low for f in found]))
            rows.append({"scenario": machine.name, "n": n, "claimed": found[0].coverage,
                         "coverage": float(np.mean(held)), "median_width": width})  # fmt: skip
    return rows


def _paired(turns: np.ndarray) -> Ratio:
    """Of an arm that is ``TRUE_FACTOR`` times as fast, from turns (2, rounds)."""
    return paired_ratio(turns[0].tolist(), (turns[1] / TRUE_FACTOR).tolist())


def normalised_coverage(sims: int, seed: int) -> list[Row]:
    """The interval of the speed-up of normalised times: audio seconds to the target, which vary
    over seeds, times the seconds that one takes, measured once in turns and the same for all seeds.
    ``rounds``: of the benchmark; None: its rates are known exactly.

    The arm needs a third of the audio and goes through it ``TRUE_FACTOR`` times as fast.
    """
    rows = []
    for rounds in (None, *NORMALISED_ROUNDS):
        for cell in cells():
            rng = cell.rng(seed, 10, rounds or 0)
            audio = np.exp(SCENARIOS[0].draw(rng, sims, 1, cell.n, cell.sd))
            audio[:, 1] /= 3
            turns = MACHINES[0].draw(rng, sims, rounds or 1) * (rounds is not None)
            rates = np.exp(turns)
            rates[:, 1] /= TRUE_FACTOR
            held = [_held(a, r, 3 * TRUE_FACTOR) for a, r in zip(audio, rates, strict=True)]
            rows.append(cell.row(rounds=rounds, coverage=float(np.mean(held))))
    return rows


def _held(audio: np.ndarray, rates: np.ndarray, truth: float) -> bool:
    """Audio seconds (2, n) and rounds' seconds for each (2, rounds), the baseline's first. As
    :func:`wg.report.throughput.seconds_for` has it for a run of one shape and no fixed cost."""
    times: list[dict[int, Any]] = [
        {s: float(x) * median(rate.tolist()) for s, x in enumerate(row)}
        for row, rate in zip(audio, rates, strict=True)
    ]
    found = widened(
        speed_up(times[0], times[1], {}, {}), log_error(*(r.tolist() for r in rates)), len(rates[0])
    )
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high
