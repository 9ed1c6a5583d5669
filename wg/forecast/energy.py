"""Joules of a second of steps on this machine, where it has a meter (wg.measure.energy)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from wg.bench.gauge import seconds
from wg.measure.energy import EnergyMeter, meter

# Wall seconds of steps at least: a GPU's counter moves every 20 to 100 ms, which is 5% of this.
LEAST = 2.0


@dataclass(frozen=True)
class Energy:
    """a_second: joules for a second of the clock that counts: watts where that is wall seconds;
    None where they are not known. metered: there is a meter that can be read. of: what it counts,
    or why there is none."""

    a_second: float | None
    metered: bool
    of: str


UNKNOWN = Energy(None, False, "not looked for")


def meter_here(device: torch.device) -> EnergyMeter:
    """Of the CPU packages and of the GPU that a step runs on."""
    if device.type != "cuda":
        return meter()
    return meter([str(torch.cuda.get_device_properties(device).uuid)])


def unmeasured(counted: EnergyMeter) -> Energy:
    """What could be counted, before any step is made."""
    if not counted.sources:
        return Energy(None, False, "; ".join(counted.missing))
    return Energy(None, True, counted.of)


def of_steps(
    once: Callable[[], None],
    device: torch.device,
    clock: str,
    counted: EnergyMeter,
    least: float | None = None,
) -> Energy:
    """From as many steps (``once``) as take ``least`` (LEAST) wall seconds, at least one; none
    are made without a meter. ``clock``: "wall" or "cpu", of which a second is meant."""
    if not counted.sources:
        return unmeasured(counted)

    def steps() -> None:
        end = time.monotonic() + (LEAST if least is None else least)
        once()
        while time.monotonic() < end:
            once()

    counted.start()
    took = seconds(steps, device)
    counted.stop()
    joules = counted.joules
    if joules is None:  # its counters failed on the way
        return unmeasured(counted)
    return Energy(joules / (took.cpu if clock == "cpu" else took.wall), True, counted.of)
