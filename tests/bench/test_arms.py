"""``wg bench arms``: all arms of a sweep in turns, and what a report makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.bench import arms as bench
from wg.bench.arms import ArmProcess, bench_arms, check_writable, measured, timed
from wg.bench.gauge import Gemm, Seconds
from wg.bench.worker import ArmSteps
from wg.errors import UserError
from wg.flow.flops import step_flops
from wg.report.build import write_report
from wg.report.read import read_sweep
from wg.report.throughput import FILE, FORMAT, rounds_of, seconds_for
from wg.sweep.rundir import prepare
from wg.train.run import _run

Config = Callable[..., dict[str, Any]]
GROWTH: dict[str, Any] = {"grow_flows": {"n_flows": [2, 4], "until": [0.5]}}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wg.bench.measure.SHORTEST", 0.0)


def test_steps_of_every_shape_that_a_run_goes_through(tiny_config: Config) -> None:
    """In the network of that stage, with the model FLOPs that a run counts."""
    strategy = {**GROWTH, "curriculum": {"segment_lengths": [2048, 4096], "until": [0.25]}}
    arm = ArmSteps(tiny_config(strategy=strategy))
    phases = arm.facts()["phases"]
    assert [(p["samples"], p["shape"]["batch"]) for p in phases] == [
        (8192, 4),
        (8192, 2),
        (8192, 2),
    ]
    assert [sum(s.job.module.model.active) for s in arm.steps] == [2, 2, 4]
    config = arm.work.config
    assert phases[0]["flops"] == step_flops(config, 4, 2048, (1, 3))
    assert phases[2]["flops"] == step_flops(config, 2, 4096)
    # 4 s of 16 kHz in steps of 8,192 samples, an eighth of a step rounded up.
    assert sum(p["steps"] for p in phases) == 8
    turn = arm.turn()
    assert turn["finite"]
    assert len(turn["steps"]) == 3
    assert all(s["cpu"] > 0 and s["wall"] > 0 for s in turn["steps"])
    assert turn["gemm"]["cpu"] > 0


@pytest.mark.parametrize("arithmetic", ["fp32", "bf16"])
def test_the_yardstick_is_of_the_arms_arithmetic(arithmetic: str) -> None:
    gemm = Gemm(torch.device("cpu"), arithmetic)
    assert gemm.out.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[arithmetic]
    gemm()
    exact = gemm.a.double() @ gemm.b.double()
    error = float((gemm.out.double() - exact).abs().max() / exact.abs().max())
    assert error < {"fp32": 1e-5, "bf16": 1e-2}[arithmetic]


class Known:
    """Stands in for a process: ``seconds`` of a step by shape, the same in every turn but for a
    machine that is slower now and then, for all."""

    slow = (1.0, 3.0, 1.0, 1.0)

    def __init__(self, config: Any, seconds: list[float], phases: list[tuple[int, int]]) -> None:
        self.refused, self.turns, self.seconds = "", 0, seconds
        self.facts: dict[str, Any] | None = {
            "clock": "cpu", "arithmetic": "fp32", "gemm_flops": 1000, "sampling_rate": 100,
            "phases": [{"steps": n, "samples": s, "flops": 10} for n, s in phases],
        }  # fmt: skip

    def turn(self) -> dict[str, Any]:
        slow = self.slow[self.turns % len(self.slow)]
        self.turns += 1
        steps = [vars(Seconds(wall=9.0, cpu=slow * s)) for s in self.seconds]
        return {"gemm": vars(Seconds(9.0, slow)), "steps": steps, "finite": True}


def test_the_numbers_by_hand() -> None:
    """Two shapes: 10 steps of 0.5 s and 30 of 0.1 s, 200 samples each, for 80 s of audio."""
    arm: Any = Known(None, [0.5, 0.1], [(10, 200), (30, 200)])
    base: Any = Known(None, [0.4], [(40, 200)])
    turns = {p: [p.turn() for _ in range(4)] for p in (arm, base)}
    assert rounds_of(timed(arm, turns[arm])) == pytest.approx([0.1, 0.3, 0.1, 0.1])
    row = measured(arm, turns[arm], rounds_of(timed(base, turns[base])))
    assert row["audio_seconds_per_second"] == pytest.approx(10)
    # 16 s against 8 s; the slow round was slow for both.
    assert row["relative"]["median"] == pytest.approx(2)
    assert (row["relative"]["low"], row["relative"]["high"]) == pytest.approx((2, 2))
    assert row["flops_per_second"] == pytest.approx(400 / 8)
    assert row["share_of_peak"] == pytest.approx(400 / 8 / 1000)
    # The first 30 s of audio: 20 s in the first shape, 10 s in the second.
    assert seconds_for(row, 30.0) == pytest.approx(5 + 0.5)
    assert seconds_for(row, 100.0) == pytest.approx(5 + 40 * 0.1)
    assert seconds_for(row, 0.0) == 0.0


@pytest.fixture
def trained(tiny_config: Config, tmp_path: Path) -> Path:
    """A sweep of three arms that ran."""
    target = {"name": "t", "conditions": {"nats_per_sample": 9.0}, "how": "for a test"}
    for arm, strategy in (("nvidia", {}), ("grow", GROWTH), ("parts", {"ddp": {"ranks": 1}})):
        config = tiny_config(
            strategy=strategy,
            arm=arm,
            target=target,
            recipe=arm,
            evaluation={"metrics": ["nats_per_sample", "log_mel_l1"]},
        )
        assert _run(prepare({**config, "out": str(tmp_path / "s")}, []), 0) == 0
    return tmp_path / "s"


def test_from_a_sweep_to_its_page(trained: Path, tmp_path: Path) -> None:
    """Real processes; one refuses."""
    sweep = read_sweep(trained)
    config = dict(sweep.arms["parts"].any_run.config)
    config["strategy"] = {"ddp": {"ranks": 2}}
    run = replace(sweep.arms["parts"].any_run, config=config)
    sweep.arms["parts"].runs[run.seed] = run
    said: list[str] = []
    findings, complete = bench_arms(sweep, 2, "wg bench arms s", said.append)
    assert complete
    assert findings is not None
    assert said[0] == "[1/3] nvidia: ready, 1 shape"
    assert "[2/3] grow: ready, 2 shapes" in said
    assert findings["arms"]["parts"]["refused"].startswith("2 processes share a step")
    for name in ("nvidia", "grow"):
        row = findings["arms"][name]
        assert 0 < row["share_of_peak"] < 1
        assert len(row["raw"]) == 2
    assert findings["arms"]["nvidia"]["relative"]["median"] == 1.0
    (trained / FILE).write_text(json.dumps(findings))
    page = write_report(trained, tmp_path / "r", say=said.append, price=3.6)
    cost = json.loads((tmp_path / "r" / "results.json").read_text())["cost"]
    rows = cost["normalised"]["arms"]
    assert rows["parts"]["refused"].startswith("2 processes")
    assert rows["grow"]["time_to_target"]["missed"] == 0
    assert cost["arms"]["grow"]["flops_per_second"] > 0
    text = page.read_text()
    assert "normalised speed-up" in text
    assert "3.6 an hour" in text


def test_an_interrupt_keeps_whole_rounds(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = 4  # turns until somebody presses Ctrl-C

    class Stopped(Known):
        def __init__(self, config: Any) -> None:
            super().__init__(config, [0.1], [(4, 200)])

        def __enter__(self) -> Stopped:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def turn(self) -> dict[str, Any]:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return super().turn()

    monkeypatch.setattr(bench, "ArmProcess", Stopped)
    sweep = read_sweep(trained)
    findings, complete = bench_arms(sweep, 9, "c", lambda text: None)
    assert not complete
    assert findings is not None
    assert findings["rounds"] == 1
    assert all(len(row["raw"]) == 1 for row in findings["arms"].values())
    left = 2
    assert bench_arms(sweep, 9, "c", lambda text: None) == (None, False)


def test_a_process_that_dies_is_told_of(tiny_config: Config) -> None:
    with ArmProcess(tiny_config()) as process:
        assert process.facts is not None
        process._process.kill()
        process._process.wait()
        with pytest.raises(UserError, match="its process ended while it was measured: exit status"):
            process.turn()


def test_a_file_of_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    check_writable(tmp_path)
    (tmp_path / FILE).write_text(json.dumps({"format": FORMAT}))
    check_writable(tmp_path)
    for text in ("{", "[]", '{"format": "mine"}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UserError, match="was not written by `wg bench arms`"):
            check_writable(tmp_path)
    assert bench.FILE == FILE
