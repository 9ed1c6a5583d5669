"""This machine: its rates of matrix products and of copies, what share a real step reaches, and
what energy it takes.

Seconds of a step = its products / (rate of matrix products * efficiency) + what the optimizer,
weight norm and activations move / rate of copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from wg.bench.batch import make_batch
from wg.bench.gauge import Gemm, clock_of, seconds
from wg.bench.step import OwnStep
from wg.forecast.energy import UNKNOWN, Energy, meter_here, of_steps, unmeasured
from wg.forecast.memory import MemoryModel
from wg.sweep.compose import configurations
from wg.train.build import resolve_device
from wg.train.settings import Settings
from wg.train.workload import Phase, Workload, workload

# Of the rate of a large fp32 product, without the optimizer: plain training of the small model on
# one CPU core (reports/plan); of a GPU an assumption.
STATED = {"cpu": 0.75, "cuda": 0.4}
REPEATS = 5
COPIED = {"cpu": 2**26, "cuda": 2**30}  # bytes, beyond any cache
LONGEST = 5.0  # seconds of a step that is measured, by the stated share
SHORT = 4  # times shorter, of the second step that is measured
_PARALLEL = ("ddp", "accumulate", "micro_batch")  # what is no matter of one step on one rank


@dataclass(frozen=True)
class Here:
    """device; threads; clock: "wall", or "cpu" seconds of the process; gemm_rate: FLOP/s;
    efficiency: FLOP/s of convolutions over it; bandwidth: bytes a second that the rest moves;
    measured: the steps that both are from, [] where they are stated and a copy's. energy: of the
    longer of those steps."""

    device: str
    threads: int
    clock: str
    gemm_rate: float
    efficiency: float
    bandwidth: float
    measured: list[dict[str, Any]]
    energy: Energy = UNKNOWN

    def step_seconds(self, work: Workload, memory: MemoryModel, phase: Phase) -> float:
        """Of a step of ``phase``, on one rank."""
        flops = work.repeated * phase.flops
        moved = memory.weights_moved + memory.traffic(phase.shape.batch * phase.shape.samples)
        return flops / (self.gemm_rate * self.efficiency) + moved / self.bandwidth

    def seconds(self, work: Workload, memory: MemoryModel) -> float:
        """Of all steps of a run, on one rank."""
        return sum(p.steps * self.step_seconds(work, memory, p) for p in work.phases)

    def kwh(self, seconds: float) -> float | None:
        """Of so many seconds of steps; None where their energy is not known."""
        return None if self.energy.a_second is None else seconds * self.energy.a_second / 3.6e6

    @property
    def hour(self) -> str:
        """What an hour of the clock is called."""
        return "CPU hour" if self.clock == "cpu" else "hour"


def here(device: str, threads: int, config: Mapping[str, Any] | None = None) -> Here:
    """A few matrix products and copies, and with ``config`` a few real steps of it in between.

    Raises :class:`UserError` for a device that is not there, and for a configuration whose step
    cannot be made here.
    """
    where = resolve_device(device)
    torch.set_num_threads(threads)
    clock = clock_of(where)

    def spent(work: Callable[[], None]) -> float:
        return float(asdict(seconds(work, where))[clock])

    gemm = Gemm(where)
    source = torch.ones(COPIED[where.type] // 4, device=where)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    gemm()
    copy()
    products, copies = [], []
    for _ in range(REPEATS):
        products.append(spent(gemm))
        copies.append(spent(copy))
    rate = gemm.flops / median(products)
    stated, bandwidth = STATED[where.type], 2 * COPIED[where.type] / median(copies)
    counted = meter_here(where)
    if config is None:
        energy = unmeasured(counted)
        return Here(where.type, threads, clock, rate, stated, bandwidth, [], energy)
    long, memory = _step(config, rate * stated, 1)
    short, _ = _step(config, rate * stated, SHORT)
    steps = [long, short]
    for step in steps:
        step.use()
        step.settle()
        _once(step)
    times: list[list[float]] = [[], []]
    products = []
    for i in range(REPEATS):
        products.append(spent(gemm))
        for j in (0, 1) if i % 2 == 0 else (1, 0):
            times[j].append(spent(lambda step=steps[j]: _once(step)))  # type: ignore[misc]
    rate = gemm.flops / median(products)
    found = [_found(step, memory, t) for step, t in zip(steps, times, strict=True)]
    energy = of_steps(lambda: _once(long), where, clock, counted)
    return Here(where.type, threads, clock, rate, *solved(found, rate, bandwidth), found, energy)


def solved(
    found: Sequence[Mapping[str, Any]], rate: float, bandwidth: float
) -> tuple[float, float]:
    """(efficiency, bandwidth) that a long and a short step have in common: two equations. Where
    noise lets one of them be negative, the given bandwidth counts and the long step alone."""
    (a, u, s), (b, v, t) = ((f["flops"], f["moved"], f["seconds"]) for f in found)
    determinant = a * v - b * u
    if determinant > 0:
        a_flop, a_byte = (s * v - t * u) / determinant, (a * t - b * s) / determinant
        if a_flop > 0 and a_byte > 0:
            return 1 / (a_flop * rate), 1 / a_byte
    return a / (rate * max(s - u / bandwidth, s / 2)), bandwidth


def _once(step: OwnStep) -> None:
    step.use()
    step.backward()
    step.update()


def _found(step: OwnStep, memory: MemoryModel, times: list[float]) -> dict[str, Any]:
    segments, samples = step.batch.audio.shape
    flops = step.job.module.flops_of_step(segments, samples) * memory.work.repeated
    return {
        "segments": segments, "samples": samples, "flops": flops,
        "moved": memory.weights_moved + memory.traffic(segments * samples),
        "seconds": median(times), "all": times,
    }  # fmt: skip


def _step(config: Mapping[str, Any], rate: float, shorter: int) -> tuple[OwnStep, MemoryModel]:
    """With as many of the run's segments as take no more than a few seconds at ``rate``, each
    ``shorter`` times shorter. The corpus is the packaged one, which no step reads: batches are
    made."""
    kept = {k: v for k, v in config["strategy"].items() if k not in _PARALLEL}
    config = {**config, "strategy": kept}
    demo = configurations(["data=demo"])[0]["data"]
    mel = Settings.from_config(config).data.mel
    if demo.get("mel", {}).get("n_mels", 80) == mel.n_mels:
        config = {**config, "data": {**demo, "short_clips": "pad"}}
    work = workload(config)
    shape, flops = work.longest.shape, work.longest.flops / work.longest.shape.batch
    segments = int(min(max(LONGEST * rate / flops, 1), shape.batch))
    hop = work.config.upsample_stride
    samples = max(shape.samples // shorter // hop, 1) * hop if shorter > 1 else shape.samples
    step = OwnStep(work.settings, make_batch(work.settings.data.mel, segments, samples))
    return step, MemoryModel(work)
