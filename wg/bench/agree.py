"""Whether a variant's step does what plain training's does: loss, gradients, and what the
optimizer makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from wg.bench.step import Step

STEPS = 4  # whose losses are compared: the first sees the gradients, the rest the updates


@dataclass(frozen=True)
class Tolerance:
    """Largest differences that pass for rounding. loss: relative to max(1, |loss|), at equal
    weights; gradients: norm of the difference relative to plain's; fall: of the loss over the next
    steps, relative to plain's fall."""

    loss: float
    gradients: float
    fall: float


# By arithmetic: fp32 in another order; 10 bits of mantissa (TF32, fp16); 7 bits (bf16), of which a
# network of 12 flows makes several times its rounding of 2**-8.
EXACT = Tolerance(1e-5, 1e-4, 0.01)
BITS_10 = Tolerance(1e-3, 0.03, 0.1)
BITS_7 = Tolerance(1e-2, 0.15, 0.2)


def tolerance(precision: str, matmul: str) -> Tolerance:
    """That of a Plan's ``precision`` and ``matmul``."""
    if "bf16" in precision:
        return BITS_7
    return BITS_10 if "16" in precision or matmul != "highest" else EXACT


@dataclass(frozen=True)
class Trace:
    """losses before each of STEPS updates from the given weights, and the first gradients."""

    losses: list[float]
    gradients: dict[str, Tensor]


def trace(step: Step) -> Trace:
    """Make STEPS - 1 updates, looking."""
    step.use()
    losses, gradients = [], {}
    for i in range(STEPS):
        losses.append(float(step.backward()))
        if i == 0:
            gradients = {n: g.detach().float().cpu().clone() for n, g in step.gradients().items()}
        if i < STEPS - 1:
            step.update()
    return Trace(losses, gradients)


@dataclass(frozen=True)
class Agreement:
    """Differences as in :class:`Tolerance`; gradients is None where parameters are others.
    ``same`` is None where nothing was promised."""

    loss: float
    gradients: float | None
    fall: float
    same: bool | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def agreement(plain: Trace, other: Trace, allowed: Tolerance | None) -> Agreement:
    """How far ``other`` is from ``plain``, and whether that is within what is ``allowed``."""
    loss = abs(other.losses[0] - plain.losses[0]) / max(1.0, abs(plain.losses[0]))
    gradients = _distance(plain.gradients, other.gradients)
    fell = plain.losses[0] - plain.losses[-1]
    fall = abs((other.losses[0] - other.losses[-1]) - fell) / max(abs(fell), 1e-12)
    same = None
    if allowed is not None:
        # Written so that NaN is no agreement.
        same = (
            loss <= allowed.loss
            and gradients is not None
            and gradients <= allowed.gradients
            and fall <= allowed.fall
        )
    return Agreement(loss, gradients, fall, same)


def _distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float | None:
    """|a - b| / |a| over all tensors together; None when they are not the same parameters."""
    if {n: g.shape for n, g in a.items()} != {n: g.shape for n, g in b.items()}:
        return None
    apart = sum(float((a[n] - b[n]).double().square().sum()) for n in a)
    norm = sum(float(g.double().square().sum()) for g in a.values())
    return (apart / norm) ** 0.5 if norm > 0 else float("inf")
