"""Does a lead last: times to the baseline's own end, on curves whose crossings are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.report.known_sweeps import WriteRun
from wg.measure.target import Condition, Target, bracket, crossing
from wg.report.build import write_report
from wg.report.lasting import lasting_of
from wg.report.read import read_sweep

# CPU seconds and log-mel L1; nats per sample are 4 less.
BASELINE = [(0.0, 4.0), (100.0, 3.0), (200.0, 2.0)]
EARLY = [(0.0, 3.0), (10.0, 2.5), (30.0, 1.5), (40.0, 1.4)]


def both(value: float) -> Target:
    return Target("t", (Condition("log_mel_l1", value), Condition("pesq_wb", 3 - value)))


def test_the_points_around_a_crossing_hold_it() -> None:
    points = [(at, {"log_mel_l1": v, "pesq_wb": 3 - v}) for at, v in EARLY]
    assert bracket(points, both(2.0)) == (10.0, 30.0)
    assert crossing(points, both(2.0)) == pytest.approx(20.0)
    assert bracket(points, both(3.5)) == (0.0, 0.0)
    assert bracket(points, both(1.0)) == (math.inf, math.inf)
    # The last condition to be met decides, and a dip that does not last does not count.
    dipped = [(0.0, 3.0), (10.0, 1.0), (20.0, 2.5), (30.0, 1.5)]
    assert bracket([(a, {"log_mel_l1": v}) for a, v in dipped], Target(
        "t", (Condition("log_mel_l1", 2.0),)
    )) == (20.0, 30.0)  # fmt: skip


@pytest.fixture
def lasting(tmp_path: Path, write_run: WriteRun) -> Path:
    """Marks of 2.0 (seed 0), and of 1.8 and 1.5 (seeds 1 and 2)."""
    folder = tmp_path / "runs"
    for seed, end in ((0, 2.0), (1, 1.8), (2, 1.5)):
        write_run(folder, "nvidia", seed, [*BASELINE[:2], (200.0, end)])
        write_run(folder, "fast", seed, EARLY)
    return folder


def test_each_pair_has_its_own_mark(lasting: Path) -> None:
    found = lasting_of(read_sweep(lasting))
    assert found is not None
    assert {s: m["log_mel_l1"] for s, m in found["marks"].items()} == {"0": 2.0, "1": 1.8, "2": 1.5}
    assert found["baseline_seconds"] == {"0": 200.0, "1": 200.0, "2": 200.0}
    fast = found["arms"]["fast"]
    assert fast["seconds"] == pytest.approx({"0": 20.0, "1": 24.0, "2": 30.0})
    assert fast["between"] == {"0": [10.0, 30.0], "1": [10.0, 30.0], "2": [10.0, 30.0]}
    assert fast["speed_up"]["estimate"] == pytest.approx((10 * (200 / 24) * (200 / 30)) ** (1 / 3))
    assert fast["at_least"]["estimate"] == pytest.approx(200 / 30)
    assert fast["at_least"]["low"] == pytest.approx(200 / 30)  # no spread between the seeds


def test_who_has_not_got_there_bounds_the_factor_and_who_diverged_says_nothing(
    tmp_path: Path, write_run: WriteRun
) -> None:
    write_run(tmp_path, "nvidia", 0, BASELINE)
    write_run(tmp_path, "fast", 0, [(0.0, 4.0), (400.0, 2.5)])
    write_run(tmp_path, "slow", 0, BASELINE, status="failed", reason="diverged: loss")
    found = lasting_of(read_sweep(tmp_path))
    assert found is not None
    fast = found["arms"]["fast"]
    assert fast["seconds"] == {"0": None}
    assert fast["between"] == {"0": None}
    assert (fast["speed_up"]["estimate"], fast["speed_up"]["bound"]) == (0.5, "at most")
    assert found["arms"]["slow"]["speed_up"]["estimate"] is None
    assert found["arms"]["slow"]["between"] == {"0": None}


def test_there_is_no_mark_without_a_second_arm_or_a_quality(
    tmp_path: Path, write_run: WriteRun
) -> None:
    write_run(tmp_path / "one", "nvidia", 0, BASELINE)
    assert lasting_of(read_sweep(tmp_path / "one")) is None
    write_run(tmp_path / "two", "nvidia", 0, [(0.0, 4.0), (200.0, None)])
    write_run(tmp_path / "two", "fast", 0, EARLY)
    assert lasting_of(read_sweep(tmp_path / "two")) is None


def test_the_page_and_the_table_tell_it(lasting: Path, tmp_path: Path, write_run: WriteRun) -> None:
    for seed in range(3):
        write_run(lasting, "slow", seed, [(0.0, 1.0), (20.0, 0.9)])
    page = write_report(lasting, tmp_path / "r", say=lambda _: None).read_text()
    assert "Does the lead last?" in page
    assert "there before its first step" in page
    results: dict[str, Any] = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["lasting"]["arms"]["fast"]["at_least"]["estimate"] == pytest.approx(200 / 30)
    table = (tmp_path / "r" / "table.md").read_text()
    assert "fast 8.22\N{MULTIPLICATION SIGN} (" in table
    assert "to the snapshot after it 6.67\N{MULTIPLICATION SIGN}" in table
    assert "slow before its first step" in table
