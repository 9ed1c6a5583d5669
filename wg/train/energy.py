"""The meter of a run's energy."""

from __future__ import annotations

from pathlib import Path

import torch

from wg.measure.energy import EnergyMeter, meter
from wg.measure.record import last_joules, read_events
from wg.train.build import Job


def meter_of(job: Job, run_dir: Path) -> EnergyMeter:
    """Of this host's CPU packages and of all ranks' GPUs, going on from what is on record."""
    gpus = range(job.plan.ranks.n if job.device.type == "cuda" else 0)
    uuids = [str(torch.cuda.get_device_properties(i).uuid) for i in gpus]
    return meter(uuids, last_joules(read_events(run_dir)))
