"""Seconds of a step on n GPUs, from a data sheet and a few assumptions that are printed.

A step is its model FLOPs at a share of the peak, plus what memory must carry, or as long as the
kernels take to be launched where that is more; then as much of the all-reduce as the backward pass
does not hide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wg.forecast.hardware import Hardware
from wg.forecast.memory import MemoryModel
from wg.train.workload import Phase, Workload

BACKWARD = 2 / 3  # of a step's arithmetic: what the all-reduce can hide behind
# Kernels of a step for each flow and each of its layers and one more, counted from PyTorch's
# dispatcher on the published network (26) with a little for those that launch several.
LAUNCHES = 30


@dataclass(frozen=True)
class Assumptions:
    """efficiency: model FLOP/s of convolutions over the data sheet's peak. network: bytes a second
    in each direction for every GPU between hosts. latency: seconds of a hop of the ring. launch:
    seconds of a kernel's launch. per_gpu: segments on a GPU; None: the recipe's batch is shared
    out. price: money of an hour of a named GPU; price_here: of an hour of the clock here."""

    efficiency: float = 0.4
    network: float = 25e9
    latency: float = 5e-6
    launch: float = 5e-6
    per_gpu: int | None = None
    price: float | None = None
    price_here: float | None = None


@dataclass(frozen=True)
class StepTime:
    """Seconds. compute: products. traffic: activations. weights: optimizer and weight norm.
    launches: the floor of the three. reduce: the whole all-reduce; exposed: what of it is
    waited for."""

    compute: float
    traffic: float
    weights: float
    launches: float
    reduce: float
    exposed: float

    @property
    def total(self) -> float:
        return max(self.compute + self.traffic + self.weights, self.launches) + self.exposed


@dataclass(frozen=True)
class Forecast:
    """A run on ``gpus`` of one kind. batch, share: segments of its largest step, over all and on
    each; steps; step: of the largest shape; seconds, gpu_hours, kwh, money: of the whole run;
    memory: bytes on each GPU; fits; own_batch: whether the batch is the recipe's."""

    hardware: str
    gpus: int
    batch: int
    share: int
    steps: int
    step: StepTime
    seconds: float
    gpu_hours: float
    kwh: float
    money: float | None
    memory: float
    fits: bool
    own_batch: bool


def all_reduce_seconds(n: int, size: float, bandwidth: float, latency: float) -> float:
    """Of ``size`` bytes over a ring of ``n`` ranks: each sends (n - 1) / n of them twice, in
    2 (n - 1) hops (Patarasuk & Yuan 2009, https://doi.org/10.1016/j.jpdc.2008.09.002)."""
    return 2 * (n - 1) / n * size / bandwidth + 2 * (n - 1) * latency if n > 1 else 0.0


def share_of_batch(batch: int, gpus: int, per_gpu: int | None) -> int:
    """Segments on each GPU: those asked for, or the recipe's batch shared out, at least one."""
    return per_gpu or max(math.ceil(batch / gpus), 1)


def step_time(
    work: Workload, phase: Phase, memory: MemoryModel, hw: Hardware, n: int, share: int,
    assumed: Assumptions,
) -> StepTime:  # fmt: skip
    """Of a step with ``share`` segments of the phase's shape on each of ``n`` GPUs."""
    shape, plan = phase.shape, work.plan
    flops = work.repeated * phase.flops * share / shape.batch
    compute = flops / (hw.peak[work.arithmetic] * assumed.efficiency)
    traffic = memory.traffic(share * shape.samples) / hw.bandwidth
    flows = work.config.n_flows if shape.flows is None else len(shape.flows)
    kernels = LAUNCHES * flows * (work.config.n_layers + 1)
    launches = 0.0 if plan.compile is not None else kernels * assumed.launch
    size = work.parameters * (4 if plan.ranks.compressed == "none" else 2)
    bandwidth = hw.link if n <= hw.in_host else min(hw.link, assumed.network)
    reduce = all_reduce_seconds(n, size, bandwidth, assumed.latency)
    hidden = BACKWARD * max(compute + traffic, launches)
    last_bucket = reduce * min(plan.ranks.bucket_mb * 2**20 / size, 1.0)
    exposed = max(reduce - hidden, last_bucket)
    weights = memory.weights_moved / hw.bandwidth
    return StepTime(compute, traffic, weights, launches, reduce, exposed)


def forecast(
    work: Workload, memory: MemoryModel, hw: Hardware, gpus: int, assumed: Assumptions
) -> Forecast:
    """The whole run: as much audio as planned, in fewer steps where the batch is larger."""
    seconds, steps, largest, own = 0.0, 0, None, True
    for phase in work.phases:
        share = share_of_batch(phase.shape.batch, gpus, assumed.per_gpu)
        n = math.ceil(phase.steps * phase.shape.batch / (share * gpus))
        step = step_time(work, phase, memory, hw, gpus, share, assumed)
        seconds, steps = seconds + n * step.total, steps + n
        own = own and share * gpus == phase.shape.batch
        if phase == work.longest:
            largest = (share, step, memory.at(share, phase.shape.samples, gpus).total)
    assert largest is not None
    share, step, size = largest
    gpu_hours = seconds / 3600 * gpus
    return Forecast(
        hardware=hw.name,
        gpus=gpus,
        batch=share * gpus,
        share=share,
        steps=steps,
        step=step,
        seconds=seconds,
        gpu_hours=gpu_hours,
        kwh=gpu_hours * hw.watts / 1000,
        money=None if assumed.price is None else gpu_hours * assumed.price,
        memory=size,
        fits=size <= hw.memory,
        own_batch=own,
    )
