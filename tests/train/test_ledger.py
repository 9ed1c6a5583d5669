"""What a run is charged for when it is killed: all that was really spent, whoever threw it away.

Time is made here: a step takes a second of the training clock and no other work takes any. What was
spent is counted in a file that no kill takes back, and is held against the record.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wg.measure.clock import headline
from wg.measure.record import last_clock, read_events, status
from wg.sweep.rundir import prepare

Config = Callable[..., dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]

# Counts each step that is made in a file of one byte a step, and is killed at the end of the step
# after which that file has KILL bytes (before, or after, the recorder has seen the step).
CODE = """
import os, signal, sys
from pathlib import Path
from wg.measure import clock
from wg.train import recorder, run
run_dir, spent, kill, late = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
run._score = lambda *a, **k: None
clock._now = lambda: (float(spent.stat().st_size),) * 2
if len(sys.argv) > 5:
    recorder.time = type("Slow", (), {
        "time": staticmethod(lambda: 20.0 * spent.stat().st_size),
        "monotonic": staticmethod(lambda: 0.0)})
done = recorder.Recorder.on_train_batch_end
def step(self, *args):
    with spent.open("ab") as f:
        f.write(b"1")
    last = spent.stat().st_size == kill
    if last and late == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    if len(sys.argv) > 5:
        self.record.written = 20.0 * (spent.stat().st_size - 1)
    done(self, *args)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
recorder.Recorder.on_train_batch_end = step
sys.exit(run._run(run_dir, 0))
"""


def attempt(run_dir: Path, spent: Path, kill: int, *how: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", CODE, str(run_dir), str(spent), str(kill), *how],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    ).returncode  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_twice_and_resumed_the_sum_is_what_was_spent(
    when: str, tiny_config: Config, tmp_path: Path
) -> None:
    """20 steps, snapshots after the 6th, 12th and 18th. Killed in the 10th step that is made and
    in the 19th (the 15th of the run): what lies between a snapshot and a kill is made again."""
    config = tiny_config(
        log_every=1, budget={"audio_seconds": 20 * 8192 / 16000},
        snapshots={"every": 6 * 8192 / 16000},
    )  # fmt: skip
    run_dir, spent = prepare(config, []), tmp_path / "spent"
    spent.touch()
    for kill in (10, 19):
        assert attempt(run_dir, spent, kill, when) == -signal.SIGKILL
        assert status(read_events(run_dir)) == "running"
    assert attempt(run_dir, spent, 0, when) == 0
    events = read_events(run_dir)
    assert [e["attempt"] for e in events if e["event"] == "start"] == [1, 2, 3]
    made = spent.stat().st_size
    assert made == 20 + 4 + 3  # the steps that are in the weights, and those thrown away
    # A kill before a step's end is recorded loses that step's second, and no more.
    lost = 2 if when == "before" else 0
    charged = last_clock(events)
    assert charged is not None
    assert headline(charged, "cpu") == headline(charged, "wall") == made - lost
    # At every moment of the way, and never less than before.
    seconds = [headline(e["clock"], "cpu") for e in events if "clock" in e]
    assert seconds == sorted(seconds)


def test_slow_steps_are_written_down_between_events(tiny_config: Config, tmp_path: Path) -> None:
    """With a line in the log every 100 steps and steps of 20 s, a kill still loses one at most."""
    config = tiny_config(
        log_every=100, budget={"audio_seconds": 9 * 8192 / 16000},
        snapshots={"every": 9 * 8192 / 16000},
    )  # fmt: skip
    run_dir, spent = prepare(config, []), tmp_path / "spent"
    spent.touch()
    assert attempt(run_dir, spent, 7, "after", "slow") == -signal.SIGKILL
    events = read_events(run_dir)
    assert [e["step"] for e in events if e["event"] == "clock"] == list(range(1, 8))
    charged = last_clock(events)
    assert charged is not None
    assert headline(charged, "cpu") == 7
