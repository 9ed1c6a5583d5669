"""A step's batch computed a part at a time: the whole's gradients in a part's memory.

Every part but the last is differentiated as soon as its loss is known. Their summed gradients
ride along with the last part's loss, so that one ordinary backward pass leaves in every ``.grad``
what the whole batch would have: the loss scaler, the guard, the optimizer and the all-reduce of
DDP (which starts while the last part is still going back) each see one step, as without parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wg.plan import Plan
from wg.train.settings import step_shape

Batch = tuple[Tensor, Tensor]  # mel (B, n_mels, F), audio (B, T)


def longest_segment(plan: Plan) -> int:
    """Samples of the longest training segment that will occur."""
    return max(step_shape(plan, i / 1000)[0] for i in range(1001))


def split(batch: Batch, size: int) -> list[Batch]:
    """Parts of ``size`` segments; the last may be smaller."""
    mel, audio = batch
    return list(zip(mel.split(size), audio.split(size), strict=True))


def loss_in_parts(
    loss_of: Callable[[Batch], Tensor],
    parts: list[Batch],
    parameters: Iterable[nn.Parameter],
    scaler: torch.amp.GradScaler | None = None,
) -> Tensor:
    """The loss of all ``parts`` together, a scalar to call ``backward`` on once.

    loss_of     a part's loss, a mean over its samples
    parameters  what is trained
    scaler      fp16's: gradients of every part are scaled while they are computed
    """
    *first, last = parts
    if not first:
        return loss_of(last)
    n = sum(len(audio) for _, audio in parts)
    trained = [p for p in parameters if p.requires_grad]
    total = last[1].new_zeros(())
    one = torch.ones_like(total)
    scale = one if scaler is None else scaler.scale(one)
    sums: list[Tensor | None] = [None] * len(trained)
    for part in first:
        loss = loss_of(part) * (len(part[1]) / n)
        total = total + loss.detach()
        # Autocast is for forward passes: it would round the gradients of what it leaves alone.
        with torch.autocast(total.device.type, enabled=False):
            found = torch.autograd.grad(loss * scale, trained, allow_unused=True)
        sums = [_add(a, b) for a, b in zip(sums, found, strict=True)]
        del loss, found  # or the next part's come beside them
    carried = [(p, g) for p, g in zip(trained, sums, strict=True) if g is not None]
    rest = _Carry.apply(total, scale, [g for _, g in carried], *[p for p, _ in carried])
    return loss_of(last) * (len(last[1]) / n) + rest


def _add(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    if total is None or more is None:
        return more if total is None else total
    return total.add_(more)


class _Carry(torch.autograd.Function):
    """``value``, a constant, whose gradients with respect to parameters are known already."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, scale: Tensor, grads: list[Tensor], *parameters: Tensor
    ) -> Tensor:
        ctx.grads, ctx.scale = grads, scale
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # They are scaled once already; 1 here, or NaN where the loss as a whole is poisoned.
        torch._foreach_mul_(ctx.grads, grad_output / ctx.scale)
        grads, ctx.grads = ctx.grads, None  # handed over: nothing keeps a second copy
        return (None, None, None, *grads)
