"""Joules of a second of steps, from counters that follow a clock."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from wg.forecast import here as here_module
from wg.forecast.energy import Energy, meter_here, of_steps, unmeasured
from wg.forecast.here import here
from wg.measure.energy import EnergyMeter, Source
from wg.sweep.compose import configurations

CPU = torch.device("cpu")


class Time:
    """Clocks that only work moves: on a machine that others share, the real ones run between the
    reading of a counter and that of the clock."""

    def __init__(self) -> None:
        self.wall, self.cpu = 5.0, 3.0

    def perf_counter(self) -> float:
        return self.wall

    monotonic = perf_counter

    def process_time(self) -> float:
        return self.cpu

    def busy(self) -> None:
        self.wall += 0.01
        self.cpu += 0.01

    def idle(self) -> None:
        self.wall += 0.01


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr("wg.bench.gauge.time", found)
    monkeypatch.setattr("wg.forecast.energy.time", found)
    return found


@pytest.mark.parametrize(
    ("work", "clock", "counter"),
    [("busy", "cpu", "process_time"), ("idle", "wall", "perf_counter")],
)
def test_joules_for_a_second_of_the_clock(
    work: str, clock: str, counter: str, clocks: Time
) -> None:
    """A counter that gains 40 J in each second of the clock, from wherever it stands."""
    source = Source("GPU", lambda: 1000 + 40 * getattr(clocks, counter)())
    found = of_steps(getattr(clocks, work), CPU, clock, EnergyMeter([source]), least=0.2)
    assert found.a_second == pytest.approx(40)
    assert (found.metered, found.of) == (True, "1 GPU, with all processes on them")


def test_energy_is_for_the_clock_that_counts(clocks: Time) -> None:
    """Waiting costs a package its watts too, and the hours here are CPU hours."""
    source = Source("CPU package", lambda: 40 * clocks.perf_counter())

    def half() -> None:
        clocks.busy()
        clocks.idle()

    found = of_steps(half, CPU, "cpu", EnergyMeter([source]), least=0.2)
    assert found.a_second == pytest.approx(80)


def test_steps_go_on_until_the_counters_have_moved(clocks: Time) -> None:
    steps: list[float] = []

    def step() -> None:
        steps.append(clocks.wall)
        clocks.idle()

    counted = EnergyMeter([Source("GPU", clocks.perf_counter)])
    of_steps(step, CPU, "wall", counted, least=0.095)
    assert len(steps) == 10
    of_steps(step, CPU, "wall", counted, least=0.0)
    assert len(steps) == 11


def test_no_step_is_made_without_a_meter() -> None:
    def never() -> None:
        raise AssertionError("a step was made")

    counted = EnergyMeter([], missing=["the CPU's energy, since there is none"])
    found = of_steps(never, CPU, "cpu", counted)
    assert found == unmeasured(counted) == Energy(None, False, counted.missing[0])


def test_a_meter_that_fails_on_the_way_leaves_the_energy_unknown() -> None:
    readings = [1.0]
    counted = EnergyMeter([Source("GPU", readings.pop)])
    found = of_steps(lambda: None, CPU, "wall", counted, least=0.0)
    assert (found.a_second, found.metered) == (None, False)
    assert "its counters failed (IndexError" in found.of


def test_the_gpu_that_steps_run_on_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("wg.forecast.energy.meter", lambda *a: asked.append(a) or EnergyMeter([]))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda d: SimpleNamespace(uuid=f"of-{d}")
    )
    meter_here(CPU)
    meter_here(torch.device("cuda"))
    assert asked == [(), (["of-cuda"],)]


@pytest.mark.parametrize("measure", [True, False])
def test_only_measured_steps_tell_energy(measure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of real steps of the smallest model; a run's kWh are its seconds' joules."""
    source = Source("CPU package", lambda: 36 * time.process_time())
    monkeypatch.setattr(here_module, "meter_here", lambda _: EnergyMeter([source]))
    monkeypatch.setattr(here_module, "COPIED", {"cpu": 2**20})
    monkeypatch.setattr("wg.forecast.energy.LEAST", 0.1)
    config = configurations(["model=tiny", "data=demo", "segment_length=4000"])[0]
    found = here("cpu", 1, config if measure else None)
    assert found.energy.metered
    if not measure:
        assert found.kwh(1e5) is None
        return
    assert found.energy.a_second == pytest.approx(36, rel=0.1)
    assert found.kwh(1e5) == pytest.approx(1.0, rel=0.1)
