"""The Plan: what a recipe decides about a training run, one slot a decision.

A strategy writes slots and nothing else; `wg.train.build` turns the finished Plan into a model,
data, an optimizer and a Trainer. A slot has a single writer and a strategy cannot read what
another may write, so the order of a recipe's strategies cannot matter.

This module imports no torch: conflicts are found before anything heavy starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from wg.errors import UserError, nearest
from wg.schedule import Constant, Schedule

if TYPE_CHECKING:
    import torch

    from wg.audio.store import Store
    from wg.flow import WaveGlow


class StrategyConflict(UserError):
    """Two strategies of one recipe that cannot both be had."""


@dataclass(frozen=True)
class Base:
    """What the configuration settles before any strategy: free for every strategy to read."""

    sampling_rate: int = 16000
    segment_length: int = 16000
    batch_size: int = 1
    n_flows: int = 6
    n_stages: int = 2  # stretches of flows between early outputs
    audio_seconds: float = 60.0
    seed: int = 0


@dataclass(frozen=True)
class Ranks:
    """Data parallelism: ``n`` processes, each with its share of every batch. Gradients are summed
    in buckets of ``bucket_mb`` MB, each ``compressed`` on its way ("none", "bf16", "fp16")."""

    n: int = 1
    backend: str = "auto"
    bucket_mb: float = 25.0
    compressed: str = "none"


@dataclass(frozen=True)
class Front:
    """A fixed transform between audio and flow, computed from the mel: ``kind`` is one of
    :data:`wg.flow.config.FRONTS`, ``order`` that of its linear prediction."""

    kind: str
    order: int = 0


@dataclass(frozen=True)
class Donor:
    """Weights to start from. ``train_seconds`` is what they cost, charged to this run;
    ``any_mel``: they may have learned other mels than this run's."""

    path: str
    train_seconds: float | None = None
    any_mel: bool = False


class EvalWeights(Protocol):
    """Weights to be judged in place of the trained ones (an average, say); it has state."""

    def update(self, model: WaveGlow, progress: float) -> None:
        """After a step that was made; ``progress`` counts it."""

    def weights(self, model: WaveGlow) -> dict[str, torch.Tensor]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


# From the model's named parameters.
OptimizerFactory = Callable[[Iterable[tuple[str, "torch.nn.Parameter"]]], "torch.optim.Optimizer"]


def _slot(doc: str, **kwargs: Any) -> Any:
    return field(metadata={"doc": doc}, **kwargs)


@dataclass
class Plan:
    """Slots in build order. A value of None means: as plain WaveGlow training does it."""

    base: Base
    segment_length: Schedule | None = _slot("samples in a training segment", default=None)
    batch_size: Schedule | None = _slot("segments in a step, all ranks together", default=None)
    dequantize: float = _slot("noise added to training audio, in steps of 16 bits", default=0.0)
    loudness: Schedule | None = _slot("share of the loudest segments drawn from", default=None)
    mel_device: Literal["cpu", "cuda"] | None = _slot("device that computes the mels", default=None)
    corpus: Literal["mapped", "held"] = _slot(
        "where training reads audio and mels from", default="mapped"
    )
    shape: Mapping[str, int] | None = _slot("sizes of the model", default=None)
    conditioning: str | None = _slot("the mel's way to the couplings", default=None)
    front: Front | None = _slot("signal front end", default=None)
    actnorm: bool = _slot("scale and offset of each flow's channels", default=False)
    consistency: int | None = _slot("rounds that fit generated audio to its mel", default=None)
    wn: Literal["plain", "fused", "channels_last", "fp8"] = _slot(
        "how WN is computed", default="plain"
    )
    memory: str = _slot("activations kept for the backward pass", default="keep")
    donor: Donor | None = _slot("weights to start from", default=None)
    init: Callable[[WaveGlow, Store], None] | None = _slot(
        "data-dependent initialisation, once before the first step", default=None
    )
    n_active_flows: Schedule | None = _slot("flows that are computed", default=None)
    active_width: Schedule | None = _slot("share of WN's channels that is computed", default=None)
    micro_batch: int | None = _slot(
        "longest segments computed at a time on a rank, 0: as many as fit", default=None
    )
    optimizer: OptimizerFactory | None = _slot("optimizer and its step size", default=None)
    fused: bool = _slot("one kernel for the optimizer's step", default=False)
    lr_schedule: Schedule = _slot("factor on the step size", default=Constant(1.0))
    gradient_clip: float | None = _slot("largest gradient norm", default=None)
    precision: str = _slot("arithmetic of the forward and backward pass", default="32-true")
    matmul: str = _slot("fp32 matrix products", default="highest")
    compile: str | None = _slot("torch.compile's mode", default=None)
    cudnn_benchmark: bool = _slot("choice of cuDNN's algorithms by trial", default=False)
    ranks: Ranks = _slot("processes", default=Ranks())
    eval_weights: Callable[[WaveGlow], EvalWeights] | None = _slot(
        "weights that are judged and exported", default=None
    )
    _writers: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _writing: str | None = field(default=None, init=False, repr=False)

    @contextmanager
    def written_by(self, strategy: str) -> Iterator[Plan]:
        """While it lasts, slots may be written (once) and not read."""
        object.__setattr__(self, "_writing", strategy)
        try:
            yield self
        finally:
            object.__setattr__(self, "_writing", None)

    def __setattr__(self, name: str, value: Any) -> None:
        writing = self.__dict__.get("_writing")
        if writing is not None:
            if name not in SLOTS:
                raise UserError(
                    f"strategy '{writing}' writes '{name}', which is no slot of a Plan; "
                    f"{nearest(name, SLOTS)}"
                )
            first = self._writers.get(name)
            if first is not None:
                raise StrategyConflict(
                    f"strategies '{first}' and '{writing}' both set {name} ({SLOTS[name]}): "
                    f"take one of them out of the recipe."
                )
            self._writers[name] = writing
        object.__setattr__(self, name, value)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in SLOTS:
            writing = object.__getattribute__(self, "_writing")
            if writing is not None:
                raise UserError(
                    f"strategy '{writing}' reads slot '{name}', so the order of strategies would "
                    "matter; read plan.base instead."
                )
        return object.__getattribute__(self, name)

    def writers(self) -> Mapping[str, str]:
        """Slot -> the strategy that wrote it."""
        return dict(self._writers)


# Filled below from the class itself. While it is empty (as the class body runs) nothing is a slot.
SLOTS: dict[str, str] = {}
SLOTS.update(
    (f.name, f.metadata["doc"]) for f in Plan.__dataclass_fields__.values() if "doc" in f.metadata
)
