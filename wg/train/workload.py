"""What a run computes: its steps, shape by shape, from its plan alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wg.flow.config import FlowConfig
from wg.flow.flops import parameters, step_flops
from wg.flow.grow import starting_flows
from wg.flow.width import share_of
from wg.plan import Plan
from wg.train.prepare import flow_config
from wg.train.settings import Settings, step_shape


@dataclass(frozen=True)
class Shape:
    """Of a step: segments over all ranks, samples in each, flows and channels of WN that are
    computed (None: all)."""

    batch: int
    samples: int
    flows: tuple[int, ...] | None = None
    width: int | None = None


@dataclass(frozen=True)
class Phase:
    """``steps`` of one shape, of ``flops`` model FLOPs each; the first of them is made at progress
    ``begins``."""

    steps: int
    shape: Shape
    flops: int
    begins: float = 0.0


@dataclass(frozen=True)
class Workload:
    """A run: model, plan, and its steps by shape in the order in which the shapes come first."""

    arm: str
    settings: Settings
    plan: Plan
    config: FlowConfig
    phases: tuple[Phase, ...]

    @property
    def parameters(self) -> int:
        return parameters(self.config)

    @property
    def steps(self) -> int:
        return sum(p.steps for p in self.phases)

    @property
    def flops(self) -> int:
        """Model FLOPs of all steps."""
        return sum(p.steps * p.flops for p in self.phases)

    @property
    def samples(self) -> int:
        """Audio samples of all steps."""
        return sum(p.steps * p.shape.batch * p.shape.samples for p in self.phases)

    @property
    def longest(self) -> Phase:
        """The phase whose steps are largest: what must fit into memory."""
        return max(self.phases, key=lambda p: (p.flops, p.shape.batch * p.shape.samples))

    @property
    def repeated(self) -> float:
        """Arithmetic that is done over the model's own: WN's forward pass may be done again."""
        return 1.0 if self.plan.memory == "keep" else 4 / 3

    @property
    def arithmetic(self) -> str:
        """fp32, tf32, bf16 or fp16: what its products are made in on a GPU."""
        half = dict.fromkeys(("16-mixed", "apex-O1", "apex-O2"), "fp16") | {"bf16-mixed": "bf16"}
        plain = "fp32" if self.plan.matmul == "highest" else "tf32"
        return half.get(self.plan.precision, plain)


def workload(config: Mapping[str, Any]) -> Workload:
    """Of a resolved configuration. Raises :class:`UserError` for one that cannot be trained."""
    settings = Settings.from_config(config)
    plan = settings.plan()
    model = flow_config(settings.model, plan, settings.data.mel.n_fft)
    arm = str(config.get("arm") or settings.recipe)
    return Workload(arm, settings, plan, model, phases(plan, model))


def phases(plan: Plan, config: FlowConfig) -> tuple[Phase, ...]:
    """Steps to the end of the planned audio: the same walk that the training stream takes."""
    total = round(plan.base.audio_seconds * plan.base.sampling_rate)
    counts: dict[Shape, int] = {}
    begins: dict[Shape, float] = {}
    slots = (plan.segment_length, plan.batch_size, plan.n_active_flows, plan.active_width)
    if all(slot is None for slot in slots):
        shape = shape_at(plan, config, 0.0)
        counts[shape] = math.ceil(total / (shape.batch * shape.samples))
    else:
        seen = 0
        while seen < total:
            shape = shape_at(plan, config, seen / total)
            counts[shape] = counts.get(shape, 0) + 1
            begins.setdefault(shape, seen / total)
            seen += shape.batch * shape.samples
    return tuple(
        Phase(n, shape, flops_of(config, shape), begins.get(shape, 0.0))
        for shape, n in counts.items()
    )


def shape_at(plan: Plan, config: FlowConfig, progress: float) -> Shape:
    """The step that is made at ``progress`` (0 to 1): batch, samples, flows and width."""
    samples, batch = step_shape(plan, progress)
    flows = width = None
    if plan.n_active_flows is not None:
        on = starting_flows(config, int(plan.n_active_flows(progress)))
        flows = None if len(on) == config.n_flows else tuple(sorted(on))
    if plan.active_width is not None:
        channels = share_of(config.n_channels, plan.active_width(progress))
        width = None if channels == config.n_channels else channels
    return Shape(batch, samples, flows, width)


def flops_of(config: FlowConfig, shape: Shape) -> int:
    """Model FLOPs of one such step, forwards and backwards."""
    return step_flops(config, shape.batch, shape.samples, shape.flows, shape.width)
