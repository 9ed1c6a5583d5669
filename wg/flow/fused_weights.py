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
        self.start = _Norm(convs[0], convs[0].g)
        gains = torch.stack([c.g for c in convs[1 : L + 1]])
        if self.row_scale is not None:
            gains *= self.row_scale[:, None, None]
        self.ins = [_Norm(c, g) for c, g in zip(convs[1 : L + 1], gains, strict=True)]
        self.mixes = [_Norm(c, c.g) for c in convs[L + 1 : 2 * L + 1]]
        self.projection: _Norm | None = None
        self.cond: Tensor | None = None
        if len(convs) > 2 * L + 1:
            self.projection = _Norm(convs[-1], self._scaled(convs[-1].g))
            self.cond = self.projection.weight().flatten(1).to(dtype)
        self.stack = self._compose()

    def _scaled(self, rows: Tensor) -> Tensor:
        """(2CL, ...) of all layers' gates with the rows of tanh doubled, if they are to be."""
        if self.row_scale is None:
            return rows
        return (rows.view(-1, 2 * self.C) * self.row_scale).view_as(rows)

    # -- parameters -> products -------------------------------------------------------------

    def _compose(self) -> Stack:
        L, C, n2, E = self.n_layers, self.C, self.n2, self.end
        first, *taps = [conv.weight() for conv in self.ins]
        self.first = first.permute(2, 0, 1).contiguous()  # (K, 2C, C)
        mixes = [conv.weight()[:, :, 0] for conv in self.mixes]
        self.skips = torch.stack([w[-C:] for w in mixes])
        mix, mix_bias = E.new_zeros(L, C + n2, C), E.new_zeros(L, C + n2)
        torch.matmul(E, self.skips, out=mix[:, C:])
        for i, (w, conv) in enumerate(zip(mixes[:-1], self.mixes, strict=False)):
            mix[i, :C] = w[:C]
            mix_bias[i, :C] = conv.conv.bias[:C]
        self.skip_bias = torch.stack([m.conv.bias[-C:] for m in self.mixes]).sum(0)
        self.started = torch.cat([self.start.weight()[:, :, 0], self.start.conv.bias[:, None]], 1)
        state = torch.cat([self.started, E.new_zeros(n2, self.started.shape[1])])
        state[:, -1] += mix_bias[0]
        state[C:, -1] = torch.addmv(self.end_bias, E, self.skip_bias)
        bias = torch.stack([c.conv.bias for c in self.ins])
        if self.projection is not None:
            bias += self.projection.conv.bias.view(L, 2 * C)
        if self.row_scale is not None:
            bias *= self.row_scale
        return Stack(
            start=state,
            first=torch.matmul(self.first, self.started).permute(1, 2, 0).flatten(1),
            taps=torch.stack(taps).flatten(2) if taps else E.new_zeros(0, 2 * C, 1),
            mix=mix,
            gate_bias=bias,
            mix_bias=mix_bias,
        ).to(self.dtype)

    # -- gradients of the products -> gradients of the parameters ------------------------------

    def pull(self, d: Stack, d_cond: Tensor | None) -> list[Tensor]:
        """In the order of the parameters, from the gradients of ``stack`` and ``cond``, both in
        the dtype of the parameters."""
        L, C, E = self.n_layers, self.C, self.end
        d_const = d.start[C:, -1]
        d_skip_bias = E.mT @ d_const
        d_composed = d.mix[:, C:]
        d_end = torch.matmul(d_composed, self.skips.mT).sum(0).addr_(d_const, self.skip_bias)
        d_skips = torch.matmul(E.mT, d_composed)
        d_mixes = [*torch.cat([d.mix[:-1, :C], d_skips[:-1]], dim=1), d_skips[-1]]
        # The first layer's bias sits beside start's, in the same column.
        d_residuals = [d.start[:C, -1], *d.mix_bias[1:-1, :C]]
        d_mix_biases = [*(torch.cat([r, d_skip_bias]) for r in d_residuals[: L - 1]), d_skip_bias]
        # The first dilated convolution and start share one matrix.
        d_first = d.first.unflatten(1, (self.started.shape[1], -1)).permute(2, 0, 1)
        d_start = d.start[:C] + torch.matmul(self.first.mT, d_first).sum(0)
        d_ins = [torch.matmul(d_first, self.started.mT).permute(1, 2, 0).contiguous()]
        d_ins += [t.view_as(d_ins[0]) for t in d.taps]
        d_bias = d.gate_bias if self.row_scale is None else d.gate_bias * self.row_scale
        flat = [*self.start.pull(d_start[:, :-1, None].contiguous()), d_start[:, -1]]
        for conv, d_w, b in zip(self.ins, d_ins, d_bias, strict=True):
            d_v, d_g = conv.pull(d_w)
            flat += [d_v, self._scaled(d_g), b]
        for conv, d_w, b in zip(self.mixes, d_mixes, d_mix_biases, strict=True):
            flat += [*conv.pull(d_w[:, :, None]), b]
        if self.projection is not None:
            assert d_cond is not None
            d_v, d_g = self.projection.pull(d_cond[:, :, None])
            # Not the memory of the layers' own biases: gradients are clipped and summed in place.
            flat += [d_v, self._scaled(d_g), d_bias.flatten().clone()]
        return [*flat, d_end[:, :, None], d_const]


class _Norm:
    """The weight norm of one convolution, with a gain in place of its own, maybe."""

    def __init__(self, conv: Conv, gain: Tensor) -> None:
        self.conv, self.gain = conv, gain

    def weight(self) -> Tensor:
        """w = gain v / |v|, (O, I, K). Not kept: only |v| is needed again."""
        w, self.length = torch._weight_norm_interface(self.conv.v, self.gain, 0)
        return w

    def pull(self, d_w: Tensor) -> tuple[Tensor, Tensor]:
        """d_w (O, I, K) -> (dv, d_gain)."""
        d_v, d_gain = torch.ops.aten._weight_norm_interface_backward(
            d_w, self.conv.v, self.gain, self.length, 0
        )
        return d_v, d_gain
