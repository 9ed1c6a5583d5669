"""What reaching the target took beside its seconds, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.known_sweeps import MISSING_IT, WriteRun, falling
from wg.errors import UserError
from wg.report.build import write_report
from wg.report.throughput import FILE, FORMAT
from wg.report.words import MISSING, scaled

METER = {"model_flops": 2e9, "joules": 30.0, "joules_of": "1 GPU, with all processes on them"}


def results(sweep: Path, tmp_path: Path, **options: Any) -> tuple[dict[str, Any], str]:
    page = write_report(sweep, tmp_path / "r", say=lambda text: None, **options)
    return json.loads((page.parent / "results.json").read_text()), page.read_text()


@pytest.fixture
def metered(tmp_path: Path, write_run: WriteRun) -> Path:
    """nvidia crosses at 25 CPU s with seed 0 and misses with seed 1; fast at 12.5 and 10. Steps of
    the grid are 10 s of audio, 2 GFLOP and 30 J each; fast's are half of that."""
    half = {**METER, "model_flops": 1e9, "joules": 15.0}
    folder = tmp_path / "s"
    write_run(folder, "nvidia", 0, falling(10.0), cost=METER)
    write_run(folder, "nvidia", 1, MISSING_IT, cost=METER)
    write_run(folder, "fast", 0, falling(5.0), cost=half)
    write_run(folder, "fast", 1, falling(4.0), cost=half, start={"ranks": 2})
    return folder


def test_flops_joules_and_money_until_the_target(metered: Path, tmp_path: Path) -> None:
    found, text = results(metered, tmp_path, price=7.2)
    cost = found["cost"]
    nvidia, fast = cost["arms"]["nvidia"], cost["arms"]["fast"]
    # The crossing lies half-way between the third and the fourth point.
    assert nvidia["model_flops"]["seeds"] == {"0": 5e9, "1": None}
    assert nvidia["model_flops"]["mean"] == pytest.approx((5e9 + 8e9) / 2)  # all that it spent
    assert nvidia["model_flops"]["missed"] == 1
    assert fast["model_flops"]["seeds"] == {"0": 2.5e9, "1": 2.5e9}
    assert fast["joules"]["mean"] == pytest.approx(37.5)
    # Wall seconds are twice the CPU's: 25 s of one rank, 20 s of two, at 0.002 a second.
    assert fast["money"]["seeds"] == pytest.approx({"0": 0.05, "1": 0.08})
    # 4 GFLOP in 20 and in 16 CPU seconds.
    assert fast["flops_per_second"] == pytest.approx((4e9 / 20 + 4e9 / 16) / 2)
    assert cost["energy_meters"] == ["1 GPU, with all processes on them"]
    assert cost["normalised"] is None
    shown = ("&gt; 6.50 GFLOP", "2.50 GFLOP", "37.5 J", "225 MFLOP/s", "0.0650", "7.2 an hour")
    assert [words for words in shown if words not in text] == []
    assert "need <code>wg bench arms</code>" in text


def test_what_is_not_known_is_not_shown(sweep: Path, tmp_path: Path) -> None:
    """Records without a meter, and from before FLOPs were counted."""
    found, text = results(sweep, tmp_path)
    arm = found["cost"]["arms"]["fast"]
    assert arm["model_flops"] is arm["joules"] is arm["money"] is arm["flops_per_second"] is None
    assert "Energy is not known: not on record" in text
    assert "<th>model FLOPs</th>" not in text
    assert "<th>money" not in text


def findings(sweep: Path, **seconds: float) -> None:
    """``wg bench arms``: steps of 1 s of audio, of so many seconds."""
    rows: dict[str, Any] = {}
    for arm, s in seconds.items():
        rows[arm] = {
            "run": f"{arm}-s0-00000000", "runs": [f"{arm}-s{i}-0000000{i}" for i in range(3)],
            "refused": None, "clock": "cpu", "sampling_rate": 100,
            "phases": [{"steps": 40, "samples": 100, "flops": 10, "seconds": s}],
            "audio_seconds_per_second": 1 / s,
            "flops_per_second": 5e9, "arithmetic": "fp32", "gemm_flops_per_second": 8e9,
            "share_of_peak": 0.625, "finite": arm != "broken",
            "raw": [{"steps": [{"cpu": s * slow, "wall": 9.0}]} for slow in (1.0, 3.0) * 4],
        }  # fmt: skip
    found = {
        "format": FORMAT, "command": "wg bench arms s", "complete": True, "date": "2026-01-01",
        "commit": "c" * 40, "machine": {"cpu": "a CPU", "threads": 1}, "rounds": 9, "arms": rows,
    }  # fmt: skip
    (sweep / FILE).write_text(json.dumps(found))


def test_normalised_time(sweep: Path, tmp_path: Path) -> None:
    """Both arms need 25 s of audio with every seed; by their own clocks nvidia took 25, 50 and
    25 s and fast half as long. In turns a second of audio takes nvidia 1 s and fast 0.25."""
    findings(sweep, nvidia=1.0, fast=0.25)
    found, text = results(sweep, tmp_path)
    rows = found["cost"]["normalised"]["arms"]
    assert rows["nvidia"]["time_to_target"]["seconds"] == pytest.approx({"0": 25, "1": 25, "2": 25})
    assert rows["fast"]["time_to_target"]["mean"] == pytest.approx(6.25)
    assert rows["fast"]["speed_up"]["estimate"] == pytest.approx(4)
    assert rows["fast"]["speed_up"]["low"] == pytest.approx(4)
    assert "62%<small>5.00 GFLOP/s of<br>8.00 GFLOP/s, fp32</small>" in text
    # 120 audio seconds in 160 s against 120 in 76.3 s: a factor of 2.10, and 4 in turns.
    (warning,) = [w for w in found["warnings"] if "measured in turns" in w]
    assert warning.startswith("By its runs' own clocks fast is 2.10 times as fast")
    assert "measured in turns 4.00 times" in warning
    assert rows["fast"]["relative"]["median"] == pytest.approx(4)
    # Whichever arm the benchmark itself took for the baseline.
    found, _ = results(sweep, tmp_path, baseline="fast")
    rows = found["cost"]["normalised"]["arms"]
    assert rows["nvidia"]["relative"]["median"] == pytest.approx(0.25)
    assert rows["nvidia"]["speed_up"]["estimate"] == pytest.approx(0.25)


def test_a_donor_and_preparation_are_in_normalised_time(
    sweep: Path, tmp_path: Path, write_run: WriteRun
) -> None:
    for seed in range(3):
        write_run(sweep, "warm", seed, falling(5.0), donor=100.0)
    findings(sweep, nvidia=1.0, warm=0.5)
    found, text = results(sweep, tmp_path)
    rows = found["cost"]["normalised"]["arms"]
    assert rows["warm"]["time_to_target"]["seconds"]["0"] == pytest.approx(112.5)
    assert rows["fast"] == {"refused": "not in the sweep when it was measured"}
    assert "not in the sweep when it was measured" in text


@pytest.mark.parametrize(("key", "value"), [("clock", "wall"), ("cpu", "another CPU")])
def test_times_from_elsewhere_are_not_mixed_in(
    key: str, value: str, sweep: Path, tmp_path: Path
) -> None:
    findings(sweep, nvidia=1.0, fast=0.25)
    found = json.loads((sweep / FILE).read_text())
    for facts in [found["machine"]] if key == "cpu" else found["arms"].values():
        facts[key] = value
    (sweep / FILE).write_text(json.dumps(found))
    made, _ = results(sweep, tmp_path)
    rows = made["cost"]["normalised"]["arms"]
    assert rows["fast"]["time_to_target"] is rows["fast"]["speed_up"] is None
    assert rows["fast"]["share_of_peak"] == 0.625
    (warning,) = [w for w in made["warnings"] if w.startswith("There is no normalised time")]
    assert value in warning


def test_a_seed_that_diverged_is_a_miss(metered: Path, tmp_path: Path, write_run: WriteRun) -> None:
    """It took what it took until then; a factor over it is not known."""
    write_run(metered, "wild", 0, falling(5.0), cost=METER)
    write_run(
        metered, "wild", 1, falling(5.0)[:3], cost=METER, status="failed", reason="diverged: x"
    )
    findings(metered, nvidia=1.0, wild=0.5)
    found, text = results(metered, tmp_path, price=7.2)
    wild = found["cost"]["arms"]["wild"]
    assert wild["model_flops"]["seeds"] == {"0": 5e9, "1": None}
    assert wild["model_flops"]["mean"] == pytest.approx((5e9 + 4e9) / 2)
    assert wild["money"]["missed"] == 1
    row = found["cost"]["normalised"]["arms"]["wild"]
    assert row["time_to_target"]["missed"] == 1
    assert row["speed_up"]["bound"] == "unknown"
    assert "a run diverged" in row["speed_up"]["note"]
    assert "&gt; 4.50 GFLOP" in text


def test_without_a_target_it_is_all_that_was_spent(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, falling(10.0), cost=METER, target=None)
    found, text = results(tmp_path / "s", tmp_path)
    flops = found["cost"]["arms"]["nvidia"]["model_flops"]
    assert (flops["mean"], flops["missed"]) == (8e9, 0)
    assert "To the end of the budget" in text
    assert "&gt; 8.00 GFLOP" not in text


def test_a_damaged_file_is_told_of(sweep: Path, tmp_path: Path) -> None:
    (sweep / FILE).write_text('{"format": "other"}')
    with pytest.raises(UserError, match="is damaged: run `wg bench arms"):
        results(sweep, tmp_path)


@pytest.mark.parametrize(
    ("value", "words"),
    [(2.5e13, "25.0 TFLOP"), (999.0, "999 FLOP"), (1000.0, "1.00 kFLOP"), (None, MISSING)],
)
def test_prefixes(value: float | None, words: str) -> None:
    assert scaled(value, "FLOP") == words
