"""What a run is charged for when it is killed: all that was really spent, whoever threw it away.

Time is made here: a step takes a second of the training clock and no other work takes any. What was
spent is counted in a file that no kill takes back, and is held against the record. Where
`wg verify` looks too, time is real.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wg.measure.clock import Clock, headline
from wg.measure.record import Event, Record, last_clock, read_events, status
from wg.sweep.rundir import prepare
from wg.sweep.verify import verify
from wg.train.ledger import ledger

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
        "monotonic": staticmethod(lambda: 20.0 * spent.stat().st_size)})
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


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def outcome(code: str, *arguments: object) -> int:
    """The exit code of a process that runs ``code``."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment(),
        capture_output=True, text=True, check=False, timeout=120,
    ).returncode  # fmt: skip


def attempt(run_dir: Path, spent: Path, kill: int, *how: str) -> int:
    return outcome(CODE, run_dir, spent, kill, *how)


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


# What has no event of its own lasts five seconds, made one by one: each as soon as the one before
# is on record. At the fifth of the section KILL the process is killed, whatever is on record.
UNEVENTFUL = """
import os, signal, sys, time
from pathlib import Path
from wg.measure import clock
from wg.measure.record import last_clock, read_events
from wg.train import data, recorder, run
run_dir, spent, kill = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
run.LEDGER_EVERY = 0.05
clock._now = lambda: (float(spent.stat().st_size),) * 2
def charged():
    found = last_clock(read_events(run_dir)) or {}
    return sum(kinds["wall"] for kinds in found.values())
def lasting(section, do):
    def slow(*args, **kwargs):
        before = charged()
        for second in range(1, 6):
            with spent.open("ab") as f:
                f.write(b"1")
            if section == kill and second == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            while charged() < before + second:
                time.sleep(0.01)
        return do(*args, **kwargs)
    return slow
data.SegmentData.hold = lasting("data_prep", data.SegmentData.hold)
recorder.warm_up = lasting("compile", recorder.warm_up)
run._score = lasting("eval", lambda *args, **kwargs: None)
sys.exit(run._run(run_dir, 0))
"""


def test_what_has_no_event_is_charged_when_it_is_killed(
    tiny_config: Config, tmp_path: Path
) -> None:
    """Each kill loses what came after the last line of the ledger, a second at most."""
    run_dir, spent = prepare(tiny_config(), []), tmp_path / "spent"
    spent.touch()
    kills = ["data_prep", "data_prep", "compile", "eval"]
    for kill in kills:
        assert outcome(UNEVENTFUL, run_dir, spent, kill) == -signal.SIGKILL
        assert status(read_events(run_dir)) == "running"
    assert outcome(UNEVENTFUL, run_dir, spent, "none") == 0
    charged = last_clock(read_events(run_dir))
    assert charged is not None
    # The last attempt had only scoring left.
    made = {"data_prep": 4 * 5, "compile": 2 * 5, "eval": 2 * 5}
    assert spent.stat().st_size == sum(made.values())
    for section, seconds in made.items():
        assert seconds - kills.count(section) <= charged[section]["wall"] <= seconds
        assert charged[section]["wall"] == charged[section]["cpu"]


# Every section without events lasts until three lines of the ledger tell of it, in real time, at
# work all along; the section KILL goes on until it is killed.
REAL = """
import sys
from pathlib import Path
from wg.measure.record import read_events
from wg.train import recorder, run
run_dir, kill = Path(sys.argv[1]), sys.argv[2]
run.LEDGER_EVERY = recorder.LEDGER_EVERY = 0.1
def told(section):
    found = read_events(run_dir)
    return sum(e["attempt"] == found[-1]["attempt"] and e.get("section") == section for e in found)
def lasting(section, do):
    def slow(*args, **kwargs):
        while told(section) < 3 or section == kill:
            pass
        return do(*args, **kwargs)
    return slow
run.prepare = lasting("data_prep", run.prepare)
recorder.warm_up = lasting("compile", recorder.warm_up)
run._score = lasting("eval", run._score)
sys.exit(run.main([sys.argv[1]]))
"""


def lines_of(run_dir: Path, attempt: int, section: str) -> list[Event]:
    """What the ledger says of a section of an attempt."""
    found = [e for e in read_events(run_dir) if e["event"] == "ledger"]
    return [e for e in found if (e["attempt"], e["section"]) == (attempt, section)]


def stop(run_dir: Path, attempt: int, how: signal.Signals) -> int:
    """The exit code of an attempt that is stopped in its preparation, as soon as three lines of
    the ledger tell of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", REAL, str(run_dir), "data_prep"], env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while len(lines_of(run_dir, attempt, "data_prep")) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(how)
        return process.wait(120)
    finally:
        process.kill()


def test_a_run_that_was_stopped_while_it_prepared_passes(
    tiny_config: Config, tmp_path: Path
) -> None:
    """Killed twice and interrupted once, all before the first snapshot; then resumed to its end."""
    run_dir, growth = prepare(tiny_config(), []), 0.0
    stops = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT)
    for attempt, how in enumerate(stops, 1):
        assert stop(run_dir, attempt, how) == (130 if how == signal.SIGINT else -how)
        lines = lines_of(run_dir, attempt, "data_prep")
        seconds = [e["spent"]["data_prep"]["wall"] for e in lines]
        assert seconds == sorted(seconds)
        # An attempt goes on from what the one before has on record.
        assert seconds[0] > growth
        growth = seconds[-1]
    end = read_events(run_dir)[-1]
    assert (end["event"], end["status"]) == ("end", "interrupted")
    assert end["clock"]["data_prep"]["wall"] >= growth
    assert outcome(REAL, run_dir, "none") == 0
    for section in ("data_prep", "compile", "eval"):
        assert len(lines_of(run_dir, 4, section)) >= 3
    charged = last_clock(read_events(run_dir))
    assert charged is not None
    assert charged["data_prep"]["wall"] > end["clock"]["data_prep"]["wall"]
    (verdict,) = verify(run_dir).values()
    assert verdict.faults == []


def test_a_short_section_leaves_no_line(tmp_path: Path) -> None:
    clock, record = Clock(), Record(tmp_path)
    with ledger(record, clock, 1e6), clock("data_prep"):
        assert "ledger" in {t.name for t in threading.enumerate()}
    assert "ledger" not in {t.name for t in threading.enumerate()}
    assert read_events(tmp_path) == []


def test_a_rank_without_a_record_keeps_no_ledger() -> None:
    with ledger(None, Clock(), 0.0):
        assert "ledger" not in {t.name for t in threading.enumerate()}


def test_nothing_is_written_within_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But again as soon as it is over."""
    clock, record, in_train = Clock(), Record(tmp_path), threading.Semaphore(0)
    reading = clock.reading

    def counted() -> tuple[str | None, Any]:
        found = reading()
        if found[0] == "train":
            in_train.release()
        return found

    monkeypatch.setattr(clock, "reading", counted)
    with ledger(record, clock, 0.01):
        with clock("train"):
            # At the second the first has been done with.
            assert all(in_train.acquire(timeout=60) for _ in range(2))
        with clock("eval"):
            deadline = time.monotonic() + 60
            while not any(e["section"] == "eval" for e in read_events(tmp_path)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
    assert {e["section"] for e in read_events(tmp_path)} <= {None, "eval"}
