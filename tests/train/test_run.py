"""One run directory, whatever happens around it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.measure.record import read_events, status
from wg.sweep.rundir import prepare
from wg.train.build import build
from wg.train.run import _reason, _run, main
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]


def test_peak_memory_is_on_record(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    run_dir = prepare(tiny_config(), [])
    assert _run(run_dir, 0) == 0
    (trained,) = [e for e in read_events(run_dir) if e["event"] == "trained"]
    assert trained["peak_memory_of"] == "process"
    # PyTorch alone takes more than 100 MB; a reading in the wrong unit would be off by 1024.
    assert 1e8 < trained["peak_memory_bytes"] < 1e11


def test_peak_memory_is_the_processs_own() -> None:
    """On Linux ru_maxrss begins at the size of the process that started this one."""
    code = (
        "import torch; from wg.train.memory import peak_memory as p; print(p(torch.device('cpu')))"
    )
    ballast = bytearray(os.urandom(1 << 20)) * 1000  # 1 GB that is really there
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(ballast) == 1000 << 20
    found = int(done.stdout.split("'peak_memory_bytes': ")[1].split(",")[0])
    assert 1e8 < found < len(ballast)


def test_a_run_that_another_command_finished_is_not_started_again(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    run_dir = prepare(tiny_config(), [])
    assert main([str(run_dir)]) == 0
    before = (run_dir / "events.jsonl").read_bytes()
    capsys.readouterr()
    assert main([str(run_dir)]) == 0
    assert (run_dir / "events.jsonl").read_bytes() == before
    assert "finished meanwhile: skipped" in capsys.readouterr().out


def test_a_reader_that_goes_away_does_not_stop_it(tiny_config: Config) -> None:
    """As in ``wg train | head -1``, or a terminal that is closed."""
    run_dir = prepare(tiny_config(), [])
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "wg.train", str(run_dir)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=write, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert status(read_events(run_dir)) == "finished"
    assert "finished" in (run_dir / "log.txt").read_text().splitlines()[-1]


def test_silent_segments_are_left_out_by_config(tiny_config: Config) -> None:
    job = build(Settings.from_config(tiny_config(data={"silence_db": -60.0})))
    assert job.data.train_dataloader().dataset.silence_db == -60.0


def test_memory_that_does_not_suffice_is_told_with_its_mend() -> None:
    """Of the CPU's allocator and of CUDA's."""
    with pytest.raises(RuntimeError) as cpu:
        torch.empty(1 << 60)
    for error in (cpu.value, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")):
        assert _reason(error).startswith("out of memory: take fewer segments (batch_size")
    assert _reason(RuntimeError("a bug")) == "RuntimeError: a bug"
