"""What ranks tell each other beside gradients: sums, stops, clocks, memory. On one rank nothing."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from wg.measure.clock import Clock, Totals
from wg.train.build import Job
from wg.train.memory import peak_memory


def mean(job: Job, value: torch.Tensor) -> torch.Tensor:
    """Over ranks."""
    if job.plan.ranks.n > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= job.plan.ranks.n
    return value


def meet(job: Job) -> None:
    """Wait for every rank. At the end of what rank 0 does for all, and on the same clock as that:
    otherwise the others wait in their next step, and the time is booked as training."""
    if job.plan.ranks.n > 1:
        dist.barrier()


def on_any(job: Job, here: bool) -> bool:
    """Whether it is so on any rank."""
    return bool(_largest(job, [float(here)])[0]) if job.plan.ranks.n > 1 else here


def clock_totals(job: Job, clock: Clock) -> Totals:
    """Own clocks on one rank, the maximum over ranks on several."""
    totals = clock.totals()
    if job.plan.ranks.n > 1:
        names = [(s, k) for s in totals for k in totals[s]]
        values = _largest(job, [totals[s][k] for s, k in names])
        for (s, k), v in zip(names, values, strict=True):
            totals[s][k] = round(v, 6)
    return totals


def largest_memory(job: Job) -> dict[str, Any]:
    """:func:`peak_memory` of the rank that has used most."""
    found = peak_memory(job.device)
    if job.plan.ranks.n > 1:
        found["peak_memory_bytes"] = int(_largest(job, [float(found["peak_memory_bytes"])])[0])
    return found


def _largest(job: Job, values: list[float]) -> list[float]:
    device = job.module.device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    shared = torch.tensor(values, dtype=dtype, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    found: list[float] = shared.tolist()
    return found
