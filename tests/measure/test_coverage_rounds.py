"""The interleaved benchmark's interval, and that of times normalised by it."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest

from wg.measure import coverage_rounds as study
from wg.measure.ratio import log_error
from wg.measure.stats import speed_up, widened
from wg.report.throughput import rounds_of, seconds_for


def test_turns_vary_as_they_say() -> None:
    for machine in study.MACHINES:
        x = machine.draw(np.random.default_rng(0), 40_000, 3)
        ratio = x[:, 0] - x[:, 1]
        assert np.median(ratio) == pytest.approx(0, abs=0.004)
        if not machine.interrupted:
            assert ratio.std(axis=0) == pytest.approx(np.full(3, study.RATIO_SD), rel=0.03)
            lag = np.corrcoef(ratio[:, 0], ratio[:, 1])[0, 1]
            assert lag == pytest.approx(machine.spell, abs=0.02)


def test_the_paired_ratio_covers_what_it_claims_while_rounds_are_independent() -> None:
    for r in study.ratio_coverage(1500, 7):
        error = math.sqrt(r["claimed"] * (1 - r["claimed"]) / 1500)
        if "correlated" in r["scenario"]:
            assert r["coverage"] < r["claimed"]
        else:
            assert r["coverage"] == pytest.approx(r["claimed"], abs=4 * error)


def test_normalised_time_covers_with_exact_rates_and_with_nine_rounds() -> None:
    rows = {
        (r["rounds"], r["sd"], r["n"]): r["coverage"] for r in study.normalised_coverage(800, 7)
    }
    for sd in (0.15, 0.35):
        for rounds in (None, 9, 36):  # by the seeds alone 0.84 with nine at sd 0.15 and n = 8
            assert rows[rounds, sd, 8] == pytest.approx(0.95, abs=0.031)  # four standard errors


def test_normalised_times_are_those_of_the_report() -> None:
    """What the study makes of audio and rounds, and what the page makes of throughput.json."""
    rng = np.random.default_rng(3)
    audio, rates = np.exp(rng.normal(5, 0.2, (2, 3))), np.exp(rng.normal(-1, 0.1, (2, 9)))
    times = []
    for arm in range(2):
        steps = [{"cpu": float(r) * 0.5} for r in rates[arm]]
        phase = {"samples": 8000, "steps": 50, "seconds": median(s["cpu"] for s in steps)}
        row = {"sampling_rate": 16000, "clock": "cpu", "phases": [phase],
               "raw": [{"steps": [s]} for s in steps]}  # fmt: skip
        assert rounds_of(row) == pytest.approx(rates[arm])
        times.append({s: seconds_for(row, float(a)) for s, a in enumerate(audio[arm])})
    error = log_error(*(r.tolist() for r in rates))
    page = widened(speed_up(times[0], times[1], {}, {}), error, 9)
    assert page.low is not None
    assert page.high is not None
    for limit in (page.low, page.high):
        inside, outside = ((limit * f) for f in (1 + 1e-9, 1 - 1e-9))
        assert study._held(audio, rates, inside) != study._held(audio, rates, outside)
