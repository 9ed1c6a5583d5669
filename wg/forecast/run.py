"""``wg plan``: every run of a command line, here and on named hardware."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from wg.commit import code_commit
from wg.errors import UserError
from wg.forecast.hardware import Hardware
from wg.forecast.here import Here, here
from wg.forecast.memory import Memory, MemoryModel
from wg.forecast.model import Assumptions, Forecast, forecast
from wg.sweep.compose import Composed, configurations
from wg.train.settings import identity
from wg.train.workload import Workload, workload

FORMAT = "wg-plan/1"


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seeds alone. memory: on one rank with the whole batch.
    seconds_here, kwh_here, money_here: of one run on this machine; None where not known."""

    name: str
    seeds: list[int]
    work: Workload
    memory: Memory
    seconds_here: float
    kwh_here: float | None
    money_here: float | None
    forecasts: list[Forecast]


@dataclass(frozen=True)
class Findings:
    """The command, this machine, every arm, the named GPUs, and what was assumed."""

    command: str
    here: Here
    arms: list[Arm]
    hardware: list[Hardware]
    assumed: Assumptions

    @property
    def runs(self) -> int:
        return sum(len(a.seeds) for a in self.arms)


def plan(
    overrides: Sequence[str],
    command: str,
    hardware: Sequence[Hardware],
    gpus: Sequence[int],
    assumed: Assumptions,
    *,
    sweep: bool = False,
    measure: bool = False,
) -> Findings:
    """Composes as ``wg train`` does and starts nothing. Raises :class:`UserError` as it would."""
    composed = configurations(overrides, sweep)
    if not composed:
        raise UserError("the sweep has no runs.")
    arms = _arms(composed)
    first = next(iter(arms.values()))[0]
    settings = workload(first).settings
    # A run for a GPU may be planned on a machine without one.
    device = settings.device if torch.cuda.is_available() else "cpu"
    if measure:
        first = {**first, "device": device}
    machine = here(device, settings.threads, first if measure else None)
    return Findings(
        command,
        machine,
        [_arm(runs, machine, hardware, gpus, assumed) for runs in arms.values()],
        list(hardware),
        assumed,
    )


def _arms(composed: Sequence[Composed]) -> dict[str, list[Composed]]:
    """Configurations that are equal but for the seed, in the order of their first."""
    found: dict[str, list[Composed]] = {}
    for config in composed:
        found.setdefault(identity({**config, "seed": 0}), []).append(config)
    return found


def _arm(
    runs: Sequence[Composed],
    machine: Here,
    hardware: Sequence[Hardware],
    gpus: Sequence[int],
    assumed: Assumptions,
) -> Arm:
    work = workload(runs[0])
    model = MemoryModel(work)
    shape = work.longest.shape
    seconds, price = machine.seconds(work, model), assumed.price_here
    return Arm(
        work.arm,
        [run["seed"] for run in runs],
        work,
        model.at(shape.batch, shape.samples),
        seconds,
        machine.kwh(seconds),
        None if price is None else seconds / 3600 * price,
        [forecast(work, model, hw, n, assumed) for hw in hardware for n in gpus],
    )


def to_json(found: Findings) -> dict[str, Any]:
    """Plain values, with everything that the tables show."""
    return {
        "format": FORMAT,
        "command": found.command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code_commit(),
        "here": asdict(found.here),
        "assumptions": asdict(found.assumed),
        "hardware": [asdict(h) for h in found.hardware],
        "arms": [
            {
                "arm": a.name,
                "seeds": a.seeds,
                "parameters": a.work.parameters,
                "steps": a.work.steps,
                "audio_seconds": a.work.samples / a.work.plan.base.sampling_rate,
                "model_flops": a.work.flops,
                "model_flops_a_step": a.work.longest.flops,
                "arithmetic": a.work.arithmetic,
                "phases": [asdict(p) for p in a.work.phases],
                "memory": {**asdict(a.memory), "total": a.memory.total},
                "seconds_here": a.seconds_here,
                "kwh_here": a.kwh_here,
                "money_here": a.money_here,
                "forecasts": [
                    {**asdict(f), "step": {**asdict(f.step), "total": f.step.total}}
                    for f in a.forecasts
                ],
            }
            for a in found.arms
        ],
    }
