"""The committed comparison with measurements (reports/plan): the formulas, on what was measured
then. Nothing is timed here."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import pytest

from wg.files import read_json
from wg.forecast.here import solved
from wg.forecast.model import all_reduce_seconds

RESULTS = Path(__file__).resolve().parents[2] / "reports" / "plan" / "results.json"


@pytest.fixture
def found() -> dict[str, Any]:
    return read_json(RESULTS)


def test_the_ring_is_near_what_two_processes_took(found: dict[str, Any]) -> None:
    ring = found["all_reduce"]
    assert len(ring["rows"]) >= 4
    for row in ring["rows"]:
        assert row["measured"] == median(row["all"])
        seconds = all_reduce_seconds(2, row["bytes"], ring["bandwidth"], ring["latency"])
        assert seconds == pytest.approx(row["predicted"])
        assert 0.5 < seconds / row["measured"] < 2


def test_steps_are_near_what_two_rates_say(found: dict[str, Any]) -> None:
    steps = found["steps"]
    rate = steps["calibrated"]["gemm_rate"]
    efficiency, bandwidth = solved(steps["from"], rate, 1.0)
    assert 0.3 < efficiency < 1.2
    for row in steps["rows"]:
        assert row["seconds"] == median(row["all"])
        seconds = row["flops"] / (rate * efficiency) + row["moved"] / bandwidth
        assert seconds == pytest.approx(row["predicted"], rel=1e-6)
        assert 0.5 < seconds / row["seconds"] < 2


def test_predicted_memory_is_near_what_the_bench_measured(found: dict[str, Any]) -> None:
    assert len(found["memory"]) > 10
    for row in found["memory"]:
        assert row["predicted"] == pytest.approx(row["measured"], rel=0.3)
