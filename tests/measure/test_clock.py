"""Clocks: every moment belongs to one section, and nothing that was spent is forgotten."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from wg.measure import clock as clock_module
from wg.measure.clock import SECTIONS, Clock, headline, headline_kind, maximum


class Time:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.wall = 100.0
        self.cpu = 7.0

    def monotonic(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.cpu

    def pass_(self, wall: float, cpu: float) -> None:
        self.wall += wall
        self.cpu += cpu


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    fake = Time()
    monkeypatch.setattr(clock_module, "time", fake)
    return fake


def test_nested_sections_are_exclusive(time: Time) -> None:
    clock = Clock()
    time.pass_(5, 5)  # outside of every section: nobody's
    with clock("train"):
        time.pass_(2, 1)
        with clock("eval"):
            time.pass_(10, 9)
        time.pass_(3, 2)
    totals = clock.totals()
    assert totals["train"] == {"wall": 5, "cpu": 3}
    assert totals["eval"] == {"wall": 10, "cpu": 9}
    assert sum(t["wall"] for t in totals.values()) == 15


def test_headline_is_what_a_recipe_is_charged_for(time: Time) -> None:
    clock = Clock()
    for i, section in enumerate(SECTIONS):
        with clock(section):
            time.pass_(10**i, 2 * 10**i)
    # init compile data_prep train eval log checkpoint
    assert headline(clock.totals(), "wall") == 10 + 100 + 1000
    assert headline(clock.totals(), "cpu") == 2 * (10 + 100 + 1000)


def test_an_attempt_goes_on_from_what_was_recorded(time: Time) -> None:
    first = Clock()
    with first("train"):
        time.pass_(4, 3)
    second = Clock(first.totals())
    with second("train"):
        time.pass_(1, 1)
    assert second.totals()["train"] == {"wall": 5, "cpu": 4}


def test_the_device_is_waited_for_at_every_boundary(time: Time) -> None:
    """Queued work of 3 s is charged to the section that queued it, not to the next."""
    queued = [0.0]

    def synchronize() -> None:
        time.pass_(queued[0], 0)
        queued[0] = 0.0

    clock = Clock(synchronize=synchronize)
    with clock("train"):
        queued[0] = 3.0
        with clock("log"):
            time.pass_(0.5, 0)
    assert clock.totals()["train"]["wall"] == 3.0
    assert clock.totals()["log"]["wall"] == 0.5


def test_a_section_ends_when_it_raises(time: Time) -> None:
    clock = Clock()
    with clock("train"):
        with pytest.raises(ZeroDivisionError), clock("eval"):
            1 / 0  # noqa: B018
        time.pass_(1, 1)
    assert clock.totals()["train"]["wall"] == 1


def test_maximum_over_ranks() -> None:
    a = {s: {"wall": 1.0, "cpu": 5.0} for s in SECTIONS}
    b = {s: {"wall": 2.0, "cpu": 4.0} for s in SECTIONS}
    assert maximum(a, b)["train"] == {"wall": 2.0, "cpu": 5.0}


def test_cpu_seconds_on_a_cpu_wall_seconds_on_a_gpu() -> None:
    assert headline_kind("cpu") == "cpu"
    assert headline_kind("cuda") == "wall"


def test_a_program_that_was_run_is_charged_with_the_process() -> None:
    """A compiler works in processes of its own; what it costs is the recipe's."""
    clock = Clock()
    work = "import time\nwhile time.process_time() < 0.5: pass"
    with clock("compile"):
        subprocess.run([sys.executable, "-c", work], check=True)
    assert clock.totals()["compile"]["cpu"] >= 0.45


def test_a_reading_changes_nothing_and_waits_for_nothing(time: Time) -> None:
    waited: list[int] = []
    clock = Clock(synchronize=lambda: waited.append(1))
    assert clock.reading()[0] is None
    with clock("compile"):
        time.pass_(2, 1)
        for _ in range(3):
            section, totals = clock.reading()
            assert section == "compile"
            assert totals["compile"] == {"wall": 2, "cpu": 1}
        assert waited == []
        time.pass_(3, 1)
    assert clock.totals()["compile"] == {"wall": 5, "cpu": 2}
    assert clock.reading() == (None, clock.totals())


def test_readings_of_another_thread_never_fall() -> None:
    """As they would if one came between a sum and its stack, and counted a second twice."""
    clock, over = Clock(), threading.Event()
    found = [clock.totals()]

    def read() -> None:
        while not over.is_set():
            found.append(clock.reading()[1])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for i in range(3000):
            with clock(SECTIONS[i % 7]), clock(SECTIONS[i % 5]):
                clock.totals()
    finally:
        over.set()
        reader.join()
    found.append(clock.totals())
    for s in SECTIONS:
        for kind in ("wall", "cpu"):
            seconds = [totals[s][kind] for totals in found]
            assert seconds == sorted(seconds)
