"""From a WN's parameters to the matrices of :mod:`wg.flow.fused_ops`, and gradients back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from wg.flow.fused_ops import Stack
from wg.flow.layers import WeightNormConv1d

if TYPE_CHECKING:
    from wg.flow.wn import WN


class Conv(NamedTuple):
    """Parameters of a weight-normalised convolution: v (O, I, K), g (O, 1, 1), bias (O,)."""

    v: Tensor
    g: Tensor
    bias: Tensor


def parameters_of(wn: WN, with_cond: bool) -> list[Tensor]:
    """In the order that :class:`Weights` takes them."""
    layers = [wn.start, *wn.in_layers, *wn.res_skip_layers]
    if with_cond:
        layers.append(wn.cond_layer)
    flat: list[Tensor] = []
    for layer in layers:
        assert isinstance(layer, WeightNormConv1d)
        flat += [layer.weight_v, layer.weight_g, layer.bias]
    assert wn.end.bias is not None
    return [*flat, wn.end.weight, wn.end.bias]


class Weights:
    """Normalised and composed weights of one WN.

    flat      what :func:`parameters_of` gives
    doubled   the tanh rows of all gates are wanted twice as large, see
              :func:`wg.flow.fused_ops.tanh_by_sigmoid`
    stack     what the products take, in ``dtype``
    cond      (2CL, M) of the conditioning projection, when it is given
    """

    def __init__(
        self, flat: Sequence[Tensor], n_layers: int, doubled: bool, dtype: torch.dtype
    ) -> None:
        convs = [Conv(*flat[i : i + 3]) for i in range(0, len(flat) - 2, 3)]
        L = self.n_layers = n_layers
        self.dtype = dtype
        self.end, self.end_bias = flat[-2][:, :, 0], flat[-1]
        self.C, self.n2 = self.end.shape[1], self.end.shape[0]
        self.row_scale: Tensor | None = None
        if doubled:
            self.row_scale = self.end.new_ones(2 * self.C)
            self.row_scale[: self.C] = 2
        self.start = _Norm(convs[0])
        self.ins = [_Norm(c) for c in convs[1 : L + 1]]
        self.mixes = [_Norm(c) for c in convs[L + 1 : 2 * L + 1]]
        self.projection: _Norm | None = None
        self.cond: Tensor | None = None
        if len(convs) > 2 * L + 1:
            self.projection = _Norm(convs[-1], self.row_scale)
            self.cond = self.projection.weight()[:, :, 0].to(dtype)
        self.stack = self._compose()

    # -- parameters -> products -------------------------------------------------------------

    def _compose(self) -> Stack:
        L, C, n2, E = self.n_layers, self.C, self.n2, self.end
        K = self.ins[0].conv.v.shape[2]
        self.taps = E.new_empty(L, K, 2 * C, C)
        mix, mix_bias = E.new_zeros(L, C + n2, C), E.new_zeros(L, C + n2)
        self.skips = E.new_empty(L, C, C)
        for i, (conv, mixed) in enumerate(zip(self.ins, self.mixes, strict=True)):
            taps = conv.weight().permute(2, 0, 1)
            if self.row_scale is None:
                self.taps[i].copy_(taps)
            else:
                torch.mul(taps, self.row_scale[:, None], out=self.taps[i])
            w = mixed.weight()[:, :, 0]
            self.skips[i] = w[-C:]
            torch.mm(E, w[-C:], out=mix[i, C:])
            if i < L - 1:
                mix[i, :C] = w[:C]
                mix_bias[i, :C] = mixed.conv.bias[:C]
        self.skip_bias = torch.stack([m.conv.bias[-C:] for m in self.mixes]).sum(0)
        self.started = torch.cat(
            [self.start.weight()[:, :, 0], self.start.conv.bias[:, None]], dim=1
        )
        state = E.new_zeros(C + n2, self.started.shape[1])
        state[:C] = self.started
        state[:, -1] += mix_bias[0]
        state[C:, -1] = self.end_bias + E @ self.skip_bias
        bias = torch.stack([c.conv.bias for c in self.ins])
        if self.projection is not None:
            bias += self.projection.conv.bias.view(L, 2 * C)
        if self.row_scale is not None:
            bias *= self.row_scale
        first = torch.matmul(self.taps[0], self.started).permute(1, 0, 2).flatten(1)
        return Stack(state, first, self.taps[1:], mix, bias, mix_bias).to(self.dtype)

    # -- gradients of the products -> gradients of the parameters ------------------------------

    def pull(self, d: Stack, d_cond: Tensor | None) -> list[Tensor]:
        """In the order of the parameters, from the gradients of ``stack`` and ``cond``, both in
        the dtype of the parameters."""
        L, C, E = self.n_layers, self.C, self.end
        d_const = d.start[C:, -1]
        d_skip_bias = E.mT @ d_const
        d_end = torch.outer(d_const, self.skip_bias)
        # The first dilated convolution and start share one matrix.
        d_first = d.first.unflatten(1, (len(self.taps[0]), -1)).transpose(0, 1)
        d_start = d.start[:C] + torch.matmul(self.taps[0].mT, d_first).sum(0)
        d_first = torch.matmul(d_first, self.started.mT)
        d_bias = d.gate_bias
        if self.row_scale is not None:
            d_bias = d_bias * self.row_scale
        ins: list[Tensor] = []
        mixes: list[Tensor] = []
        for i, (conv, mixed) in enumerate(zip(self.ins, self.mixes, strict=True)):
            d_taps = (d_first if i == 0 else d.taps[i - 1]).permute(1, 2, 0)
            d_w = torch.empty_like(conv.conv.v)
            if self.row_scale is None:
                d_w.copy_(d_taps)
            else:
                torch.mul(d_taps, self.row_scale[:, None, None], out=d_w)
            ins += [*conv.pull(d_w), d_bias[i]]
            d_w = torch.empty_like(mixed.conv.v)
            d_composed = d.mix[i, C:]
            d_end.addmm_(d_composed, self.skips[i].mT)
            torch.mm(E.mT, d_composed, out=d_w[-C:, :, 0])
            d_mix_bias = d_skip_bias
            if i < L - 1:
                d_w[:C, :, 0] = d.mix[i, :C]
                # The first layer's bias sits beside start's, in the same column.
                d_residual = d.start[:C, -1] if i == 0 else d.mix_bias[i, :C]
                d_mix_bias = torch.cat([d_residual, d_skip_bias])
            mixes += [*mixed.pull(d_w), d_mix_bias]
        flat = [*self.start.pull(d_start[:, :-1, None].contiguous()), d_start[:, -1], *ins, *mixes]
        if self.projection is not None:
            assert d_cond is not None
            flat += [*self.projection.pull(d_cond[:, :, None]), d_bias.flatten()]
        return [*flat, d_end[:, :, None], d_const]


class _Norm:
    """The weight norm of one convolution; ``row_scale`` multiplies its rows, again and again."""

    def __init__(self, conv: Conv, row_scale: Tensor | None = None) -> None:
        self.conv, self.row_scale, self.g = conv, row_scale, conv.g
        if row_scale is not None:
            self.g = (conv.g.view(-1, len(row_scale)) * row_scale).view_as(conv.g)

    def weight(self) -> Tensor:
        """w = g v / |v|, (O, I, K). Not kept: only |v| is needed again."""
        w, self.length = torch._weight_norm_interface(self.conv.v, self.g, 0)
        return w

    def pull(self, d_w: Tensor) -> tuple[Tensor, Tensor]:
        """d_w (O, I, K) -> (dv, dg)."""
        d_v, d_g = torch.ops.aten._weight_norm_interface_backward(
            d_w, self.conv.v, self.g, self.length, 0
        )
        if self.row_scale is not None:
            d_g = (d_g.view(-1, len(self.row_scale)) * self.row_scale).view_as(d_g)
        return d_v, d_g
