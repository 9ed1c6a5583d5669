"""Memory of a training step on one rank: weights and their kin exactly, activations by counting.

What the forward pass keeps for the backward pass grows in proportion to the samples of a step. So
it is counted on two short segments, with all that the strategies change about it (mixed precision,
fused and recomputed WN, ...), and extended along the line through both.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wg.audio.mel import MelConfig
from wg.flow import WaveGlow
from wg.flow.waveglow import nll
from wg.plan import Plan
from wg.train.parts import longest_segment
from wg.train.prepare import compute_as, tell_mel
from wg.train.workload import Workload

HOPS = (4, 12)  # of the two short segments
# Bytes a parameter that weight norm moves: v and w forwards, v, dw and dv backwards.
WEIGHT_NORM = 20
# Every byte of activations is written and read, and so is its gradient.
TRAFFIC = 4
ADAM = 8  # bytes of state a parameter
SCRATCH = 8  # bytes a parameter, of an optimizer that is not fused: two lists of temporaries


@dataclass(frozen=True)
class Kept:
    """Bytes of autograd's saved tensors: ``fixed`` (effective weights of weight norm, their copies
    in half precision) and for every sample of a step."""

    fixed: float
    a_sample: float

    def at(self, samples: float) -> float:
        return self.fixed + self.a_sample * samples


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank at the step's peak, which is either where the forward pass ends or in the
    optimizer's step: gradients are made while activations go.

    passing  what lives for a while in the backward pass: one flow's projection of the mel and its
             gradient, and with recomputation one flow's inside
    scratch  what the optimizer's step takes for a while
    held     gradients stay in place between steps, as DDP's buckets do
    notes    what was assumed
    """

    parameters: float
    gradients: float
    optimizer: float
    average: float
    kept: float
    passing: float
    scratch: float
    held: bool = False
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        held = self.gradients if self.held else 0.0
        peaks = (self.kept + self.passing + held, self.gradients + self.scratch)
        return self.parameters + self.optimizer + self.average + max(peaks)


class MemoryModel:
    """Of a run. Building it makes the model once, on the CPU, and computes two short segments."""

    def __init__(self, work: Workload) -> None:
        self.work = work
        model = built(work)
        self.kept = counted(model, work)
        self.inside = 0.0  # bytes a sample of one flow's own activations
        if work.plan.memory != "keep":
            plain = replace(work.plan)
            object.__setattr__(plain, "memory", "keep")
            compute_as(model, plain)
            self.inside = counted(model, work).a_sample / work.config.n_flows
        self.optimizer, self.average, self.notes = state_bytes(model, work.plan)

    def traffic(self, samples: float) -> float:
        """Bytes that activations move in a step of ``samples`` samples, kept or made again."""
        a_sample = self.kept.a_sample + self.inside * self.work.config.n_flows
        return TRAFFIC * a_sample * samples

    @property
    def weights_moved(self) -> float:
        """Bytes that the optimizer and weight norm move in a step: p and g and the state are read,
        p and the state are written."""
        return (12 + WEIGHT_NORM) * self.work.parameters + 2 * self.optimizer

    def at(self, share: int, samples: int, ranks: int = 1) -> Memory:
        """With ``share`` segments of ``samples`` samples on each of ``ranks`` ranks."""
        at_a_time = share * samples
        if self.work.plan.micro_batch:
            at_a_time = min(at_a_time, self.work.plan.micro_batch * longest_segment(self.work.plan))
        weights = 4.0 * self.work.parameters
        # amp's O2 has the weights in half precision too, all but a few.
        twin = 2.0 * self.work.parameters if self.work.plan.precision == "apex-O2" else 0.0
        c = self.work.config
        half = self.work.arithmetic in ("bf16", "fp16")
        projection = 2 * c.n_channels * c.n_layers / c.n_group * (2 if half else 4)
        return Memory(
            weights + twin,
            weights,
            self.optimizer,
            self.average,
            self.kept.at(at_a_time),
            (2 * projection + self.inside) * at_a_time,
            0.0 if self.work.plan.fused else SCRATCH * self.work.parameters,
            ranks > 1,
            self.notes,
        )


def built(work: Workload) -> WaveGlow:
    """The run's network, computing as in the run; the caller's random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WaveGlow(work.config)
    tell_mel(model, work.settings.data.mel)
    compute_as(model, work.plan)
    return model


def counted(model: WaveGlow, work: Workload) -> Kept:
    """Two short segments' saved tensors, as a line."""
    mel = work.settings.data.mel
    short, long = (hops * work.config.upsample_stride for hops in HOPS)
    a, b = (saved_bytes(model, work, mel, n) for n in (short, long))
    slope = (b - a) / (long - short)
    return Kept(max(a - slope * short, 0.0), slope)


def saved_bytes(model: WaveGlow, work: Workload, mel: MelConfig, samples: int) -> int:
    """Of one segment: storages that autograd keeps, each once, parameters not counted."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(1, mel.n_mels, 1 + samples // mel.hop_length, generator=generator)
    audio = 0.1 * torch.randn(1, samples, generator=generator)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor  # kept, so that no address is used twice

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), _cast(work.plan):
        loss = nll(model(frames, audio), work.settings.sigma)
    del loss
    return sum(sizes.values())


@contextlib.contextmanager
def _cast(plan: Plan) -> Iterator[None]:
    """Mixed precision as on a GPU: the dtype decides what is kept."""
    if plan.precision == "32-true":
        yield
        return
    dtype = torch.bfloat16 if plan.precision == "bf16-mixed" else torch.float16
    with torch.autocast("cpu", dtype):
        yield


def state_bytes(model: WaveGlow, plan: Plan) -> tuple[float, float, tuple[str, ...]]:
    """(bytes of the optimizer's state, of averaged weights, notes): found by a step of the plan's
    own optimizer on tensors without contents."""
    hollow = _hollow(model)
    notes: list[str] = []
    optimizer = (
        torch.optim.Adam(hollow.parameters())
        if plan.optimizer is None
        else plan.optimizer(hollow.named_parameters())
    )
    for p in hollow.parameters():
        p.grad = torch.empty_like(p)
    # An optimizer that looks at a number finds none here; by then its state is made.
    with contextlib.suppress(Exception):
        optimizer.step()
    if all(optimizer.state.get(p) for p in hollow.parameters()):
        state = _bytes(optimizer.state)
    else:
        state = float(ADAM * sum(p.numel() for p in hollow.parameters()))
        notes.append("the optimizer's state is not known and taken for Adam's")
    average = 0.0
    if plan.eval_weights is not None:
        try:
            average = _bytes(plan.eval_weights(hollow).state_dict())  # type: ignore[arg-type]
        except Exception as e:
            notes.append(f"averaged weights are not counted ({type(e).__name__})")
    return state, average, tuple(notes)


def _hollow(model: WaveGlow) -> nn.Module:
    """The same parameters by name and shape, without contents."""
    return copy.deepcopy(model).to("meta")


def _bytes(tree: Any) -> float:
    if isinstance(tree, Tensor):
        return float(tree.numel() * tree.element_size())
    if isinstance(tree, dict):
        return sum(_bytes(v) for v in tree.values())
    if isinstance(tree, (list, tuple)):
        return sum(_bytes(v) for v in tree)
    return 0.0
