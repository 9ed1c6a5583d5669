"""Values that change during training, as pure functions of progress.

Progress is the share of the planned audio that has been seen, in [0, 1]. It depends on nothing
but the configuration, so a resumed run takes exactly the values of an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from wg.errors import UserError


class Schedule(Protocol):
    """A value at ``progress`` in [0, 1]."""

    def __call__(self, progress: float) -> float: ...

    def describe(self) -> str: ...


@dataclass(frozen=True)
class Constant:
    """The same value at every progress."""

    value: float

    def __call__(self, progress: float) -> float:
        return self.value

    def describe(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True)
class Staircase:
    """``values[i]`` until progress reaches ``until[i]``; the last value to the end."""

    values: tuple[float, ...]
    until: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.until) != len(self.values) - 1:
            raise UserError(
                f"a staircase of {len(self.values)} values needs {len(self.values) - 1} points of "
                f"progress to change at, not {len(self.until)}."
            )
        if list(self.until) != sorted(set(self.until)) or not all(0 < u < 1 for u in self.until):
            raise UserError(
                f"points of progress {list(self.until)} must increase and lie between 0 and 1."
            )

    def __call__(self, progress: float) -> float:
        for value, until in zip(self.values, self.until, strict=False):
            if progress < until:
                return value
        return self.values[-1]

    def describe(self) -> str:
        steps = [f"{v:g} until {u:.0%}" for v, u in zip(self.values, self.until, strict=False)]
        return ", ".join([*steps, f"then {self.values[-1]:g}"])


# Share of the way down at a share of the time.
_FALLS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "cosine": lambda x: (1 - math.cos(math.pi * x)) / 2,
    "1-sqrt": math.sqrt,
}


@dataclass(frozen=True)
class WarmupDecay:
    """A factor that climbs linearly over ``warmup``, stays at 1 until ``decay_from``, and falls
    to ``final`` at the end along a ``shape``: "linear", half a "cosine", or "1-sqrt", steep first
    (Hägele et al. 2024, https://arxiv.org/abs/2405.18392, section 4)."""

    warmup: float
    decay_from: float
    final: float
    shape: str

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            # Never exactly 0, or the first step would be lost.
            return max(progress / self.warmup, 1e-3)
        if progress <= self.decay_from:
            return 1.0
        x = min((progress - self.decay_from) / (1 - self.decay_from), 1.0)
        return 1.0 + (self.final - 1.0) * _FALLS[self.shape](x)

    def describe(self) -> str:
        warm = f"warm-up {self.warmup:.0%}, " if self.warmup else ""
        if self.final == 1.0:
            return f"{warm}constant"
        return f"{warm}1 until {self.decay_from:.0%}, {self.shape} to {self.final:g}"


@dataclass(frozen=True)
class Competence:
    """A share that grows from ``start`` to 1 at progress ``until``, fast at first: its square
    grows in proportion (Platanios et al. 2019, https://arxiv.org/abs/1903.09848, eq. 7)."""

    start: float
    until: float

    def __call__(self, progress: float) -> float:
        x = min(progress / self.until, 1.0)
        return 1.0 if x == 1.0 else math.sqrt(self.start**2 + (1 - self.start**2) * x)

    def describe(self) -> str:
        return f"{self.start:.0%}, all from {self.until:.0%} of the way on"


def staircase(values: Sequence[float], until: Sequence[float] | None = None) -> Schedule:
    """Equal shares of progress unless ``until`` says otherwise."""
    if len(values) == 1:
        return Constant(values[0])
    if until is None:
        until = [(i + 1) / len(values) for i in range(len(values) - 1)]
    return Staircase(tuple(values), tuple(until))
