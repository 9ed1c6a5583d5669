"""Steps that must not be made: gradients that are not finite never reach the optimizer.

One norm over all gradients decides. It is not finite when a gradient is not, and when finite ones
are so large (a norm above 1.8e19) that Adam's squares of them would overflow and stay infinite.
A skipped step leaves weights and optimizer as they are, whatever the optimizer: its ``step`` is
not called. The batch is used up all the same, and its time stays charged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import MixedPrecision, Precision
from torch import Tensor

# Batches are drawn independently, so eight bad ones in a row mean that the weights are at fault,
# or half of the data (one chance in 256); a bad tenth would need 10^8 steps to do it by chance.
MAX_STREAK = 8
# fp16's scale starts at 2^16 and settles within some ten halvings. Where a step overflows at 2^-8,
# 24 halvings down, gradients would have to exceed 65504 * 2^8 = 1.7e7 to be mended by another.
MIN_SCALE = 2.0**-8


class Verdict(NamedTuple):
    """Of one step. ``overflow``: fp16's loss scale was too large, and will be lowered."""

    made: bool
    loss_finite: bool
    overflow: bool


class Guard:
    """Decides on every step, and counts.

    skipped    steps that were not made
    nonfinite  those among them that no loss scale explains
    streak     how many of the latter ended the run so far
    scale      fp16's loss scale, (the largest, the last) that a step overflowed at
    norm       the last gradient norm, before clipping
    """

    def __init__(self) -> None:
        self.skipped = self.nonfinite = self.streak = 0
        self.scale: tuple[float, float] | None = None
        self.norm = torch.zeros(())
        self.last = Verdict(True, True, False)

    def judge(
        self, optimizer: torch.optim.Optimizer, loss: Tensor, scaler: torch.amp.GradScaler | None
    ) -> Verdict:
        """Whether to make the step whose (unscaled) gradients are in place. All ranks agree:
        gradients are averaged by now, and whether a loss is at fault is asked of all."""
        grads = [p.grad for p in parameters(optimizer) if p.grad is not None]
        self.norm = torch.nn.utils.get_total_norm(grads)
        if math.isfinite(float(self.norm)):
            self.streak = 0
            self.last = Verdict(True, True, False)
            return self.last
        finite = not _on_any_rank(~loss.isfinite())
        overflow = scaler is not None and finite and not all_finite(grads)
        self.skipped += 1
        if overflow:
            assert scaler is not None
            scale = scaler.get_scale()
            self.scale = max(self.scale[0] if self.scale else 0.0, scale), scale
        else:
            self.nonfinite += 1
            self.streak += 1
        self.last = Verdict(False, finite, overflow)
        return self.last

    def hopeless(self, model: torch.nn.Module) -> str:
        """Why training cannot go on, or nothing. Costs nothing after a step that was made."""
        if self.last.made:
            return ""
        if not all_finite(model.state_dict().values()):
            return "weights are not finite"
        if self.streak >= MAX_STREAK:
            return f"{self.streak} steps in a row were not finite"
        if self.scale is not None and self.scale[1] <= MIN_SCALE:
            return f"fp16's loss scale fell from {self.scale[0]:g} to {self.scale[1]:.2g}"
        return ""

    def state_dict(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "nonfinite": self.nonfinite,
            "streak": self.streak,
            "scale": self.scale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped, self.nonfinite = state["skipped"], state["nonfinite"]
        self.streak, self.scale = state["streak"], state["scale"]


class GuardedPrecision(Precision):
    """fp32, each step made or not as the module's ``guard`` says."""

    scaler: torch.amp.GradScaler | None = None

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Any, model: Any, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        # Before the optimizer is called at all: its step may count before it looks at gradients.
        loss = closure()
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        verdict = model.guard.judge(optimizer, loss, self.scaler)
        if verdict.made:
            self._after_closure(model, optimizer)  # hooks, clipping
            optimizer.step(**kwargs)
        if self.scaler is not None:
            # A loss that is not finite is no matter of scale: lowering it for every bad batch is
            # how the scale falls to zero, where no step is ever made again.
            keep = None if verdict.made or verdict.overflow else self.scaler.get_scale()
            self.scaler.update(keep)
        return loss


class GuardedMixed(GuardedPrecision, MixedPrecision):
    """The same in fp16 with a loss scaler, or in bf16 without."""


def poison_gradients(loss: Tensor) -> Tensor:
    """``loss`` itself, whose gradients are all NaN when it is not finite: so that every rank
    learns of it with the gradients, without asking. (0 times a finite number is 0; 0 times
    infinity or NaN is NaN.)"""
    return loss * (1.0 + 0.0 * loss.detach())


def parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every parameter that ``optimizer`` updates, in its own order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no element is NaN or infinite; one wait for a GPU, however many tensors."""
    flags = [t.isfinite().all() for t in tensors]
    return not flags or bool(torch.stack(flags).all())


def _on_any_rank(flag: Tensor) -> bool:
    if dist.is_available() and dist.is_initialized():
        seen = flag.float().reshape(1)
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        return bool(seen.item())
    return bool(flag)
