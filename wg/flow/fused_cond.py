"""The three forms in which a fused WN takes the mel (see :mod:`wg.flow.fused_ops`).

Each makes ``gates``, what the mel and the biases give all layers, (..., 2CL, T'), and takes the
gradient of that back: ``pull`` writes the gradient of the form's tensor to ``d``, unless it is
None, and adds that of W to ``d_W``.

Shapes: (..., rows, columns), with an optional batch in front; C channels, L layers, T' groups,
G groups in a frame, M channels that ``cond_layer``, of weight W (2CL, M), reads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wg.flow.fused_ops import add_outer, by_time, room, set_product


class Projected:
    """What ``cond_layer`` has made already, (..., 2CL, T'). ``scale`` (2CL, 1), or None for ones,
    multiplies it."""

    def __init__(self, projected: Tensor, scale: Tensor | None) -> None:
        self.x, self.scale = projected, scale

    def gates(self, bias: Tensor) -> Tensor:
        out = room(self.x, self.x.shape[-2])
        if self.scale is None:
            return torch.add(self.x, bias, out=out)
        return torch.addcmul(bias, self.x, self.scale, out=out)

    def pull(self, d_gates: Tensor, d: Tensor | None, d_W: Tensor | None) -> None:
        if d is not None:
            d.copy_(d_gates if self.scale is None else d_gates * self.scale)


class AtGroups:
    """Features at the rate of groups, (..., M, T')."""

    def __init__(self, features: Tensor, W: Tensor) -> None:
        self.x, self.W = features, W

    def gates(self, bias: Tensor) -> Tensor:
        out = room(self.x, len(self.W))
        if self.x.dim() == 2:
            return torch.addmm(bias, self.W, self.x, out=out)
        return torch.baddbmm(bias, self.W.expand(len(self.x), -1, -1), self.x, out=out)

    def pull(self, d_gates: Tensor, d: Tensor | None, d_W: Tensor | None) -> None:
        assert d_W is not None
        add_outer(d_W, d_gates, self.x)
        if d is not None:
            set_product(d, self.W.mT, d_gates)


class AtFrames:
    """Features at the rate of frames, (..., M, n + 1), to be interpolated: group j of frame f
    lies at f + at[j]. The projection is made of the frames, so that it costs G times less, and its
    interpolation is one product with the two rows (1 - at, at)."""

    def __init__(self, features: Tensor, W: Tensor, at: Tensor, groups: int) -> None:
        self.frames, self.at, self.groups = AtGroups(features, W), at, groups
        self.weights = torch.stack([1 - at, at])

    def gates(self, bias: Tensor) -> Tensor:
        # The weights of a group add up to 1, so the bias may come before them.
        projected = self.frames.gates(bias)
        pairs = torch.stack([projected[..., :-1], projected[..., 1:]], dim=-1)
        gates = torch.matmul(pairs, self.weights).flatten(-2)[..., : self.groups]
        return room(gates, gates.shape[-2]).copy_(gates) if by_time(gates) else gates

    def pull(self, d_gates: Tensor, d: Tensor | None, d_W: Tensor | None) -> None:
        G = len(self.at)
        n = self.frames.x.shape[-1] - 1
        if n * G > self.groups:
            d_gates = torch.nn.functional.pad(d_gates, (0, n * G - self.groups))
        pairs = torch.matmul(d_gates.unflatten(-1, (n, G)), self.weights.mT)
        d_projected = d_gates.new_zeros(*d_gates.shape[:-1], n + 1)
        d_projected[..., :-1] = pairs[..., 0]
        d_projected[..., 1:] += pairs[..., 1]
        self.frames.pull(d_projected, d, d_W)
