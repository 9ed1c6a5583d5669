"""Crossings on a grid: the simulated curve, its grids, and what they do to a speed-up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wg.measure import coverage_crossing as study
from wg.measure.simulate import command_line


def test_a_pace_stretches_the_curve() -> None:
    audio, pace = np.array([10.0, 300.0]), np.array([[0.7]])
    slow = study.curve(audio * np.exp(0.7), pace)
    assert slow == pytest.approx(study.curve(audio, np.zeros((1, 1))))
    assert study.TARGET.conditions[0].met(float(study.curve(np.array(841.0), np.array(0.0))))


def test_the_first_grid_is_the_reference_studys() -> None:
    points = study.GRIDS[0].points.tolist()
    assert points[:15] == [0, 2, 4, 8, 16, 24, 32, 40, 50, 60, 80, 100, 120, 180, 240]
    assert points[-1] == study.BUDGET


def test_a_dense_grid_finds_the_time_itself() -> None:
    rng = np.random.default_rng(0)
    pace = rng.normal(0, 0.2, (3, 2, 2))
    found = study._times(rng, np.arange(0.0, 4200, 2), pace, 0.0)
    assert found == pytest.approx(study.REACHED * np.exp(pace), rel=1e-4)


def test_a_coarse_grid_makes_a_fast_arm_look_slower_and_noise_a_baseline() -> None:
    rows = {
        (r["grid"], r["factor"], r["noise"], r["sd"], r["n"]): r
        for r in study.crossing_coverage(60, 7)
    }
    dense, _, coarse = (g.name for g in study.GRIDS)
    for sd in (0.15, 0.35):
        exact = rows[dense, 30.0, 0.0, sd, 5]
        assert exact["bias"] == pytest.approx(1, abs=0.015)
        assert exact["coverage"] > 0.83  # four standard errors
        assert rows[coarse, 30.0, 0.0, sd, 5]["bias"] < 0.6  # the arm is there before 60 s
        assert rows[coarse, 3.0, 0.0, sd, 5]["bias"] == pytest.approx(1, abs=0.015)
        noisy = rows[dense, 30.0, 0.1, sd, 5]
        assert noisy["late"][0] > noisy["late"][1] > 1
        assert noisy["bias"] > 1.03


def test_the_command_writes_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "GRIDS", study.GRIDS[2:])
    out = tmp_path / "crossing.json"
    command_line("wg.measure.coverage_crossing", "", study.run_study, study.markdown,
                 ["-o", str(out), "--simulations", "100", "--seed", "3"])  # fmt: skip
    found = json.loads(out.read_text())
    assert found == study.run_study(100, 3)
    assert found["command"].startswith("python -m wg.measure.coverage_crossing -o FILE")
    assert out.with_suffix(".md").read_text() == study.markdown(found)
