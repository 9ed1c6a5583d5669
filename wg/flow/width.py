"""Growing the width of WN without changing its function.

A model of C channels whose first c are computed: what old channels read from new ones is zero, so
the full model is, to rounding, the narrow one, whenever it is saved. New channels keep the random
weights that they were made with. When they wake, every zero has a gradient at once.

Source: the function-preserving widening of Chen et al. 2016 (Net2Net,
https://arxiv.org/abs/1511.05641), with zeros on the way out in place of copies of channels, which
would learn alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wg.flow.layers import WeightNormConv1d
from wg.flow.wn import WN

if TYPE_CHECKING:
    from wg.flow.waveglow import WaveGlow


def channels_of(model: WaveGlow, share: float) -> int:
    """Channels of WN that ``share`` of them are: at least one, whole groups of 8 where there are
    as many, which is what vector units like."""
    return share_of(model.config.n_channels, share)


def share_of(C: int, share: float) -> int:
    """:func:`channels_of` a model of ``C`` channels."""
    whole = 8 if C >= 16 else 1
    return min(C, max(whole, round(share * C / whole) * whole))


def set_width(model: WaveGlow, width: int) -> None:
    """Compute the first ``width`` channels of every WN from now on."""
    assert 0 < width <= model.config.n_channels
    model.width = None if width == model.config.n_channels else width
    silence(model)


@torch.no_grad()
def silence(model: WaveGlow) -> None:
    """Zero what computed channels read from those that are not: after whatever may have written
    there, such as an optimizer that mixes a matrix's entries."""
    if model.width is None:
        return
    for wn in model.WN:
        assert isinstance(wn, WN)
        for weight in _reading(wn):
            weight[:, model.width :] = 0


def _reading(wn: WN) -> Iterator[Tensor]:
    """Weights (O, C, K) that read hidden channels. Rows of new channels are zeroed too: they read
    what other new channels say once the first step has moved them."""
    for layers in (wn.in_layers, wn.res_skip_layers):
        for layer in layers:
            assert isinstance(layer, WeightNormConv1d)
            yield layer.weight_v
    yield wn.end.weight


def narrow(wn: WN, width: int) -> WN:
    """``wn`` of its first ``width`` channels, for one pass: it computes with slices of the
    weights of ``wn``, which get its gradients."""
    C, L = wn.n_channels, wn.n_layers
    view = WN.__new__(WN)
    nn.Module.__init__(view)
    view.n_channels, view.n_layers = width, L
    view.fused, view.recompute = wn.fused, wn.recompute
    view.start = _Slice(wn.start, C, width, reads=False)
    view.cond_layer = _Slice(wn.cond_layer, C, width, reads=False)
    view.in_layers = nn.ModuleList(_Slice(m, C, width) for m in wn.in_layers)
    view.res_skip_layers = nn.ModuleList(_Slice(m, C, width) for m in wn.res_skip_layers)
    view.end = _End(wn.end, width)  # type: ignore[assignment]
    return view


class _Slice(WeightNormConv1d):
    """Rows, and with ``reads`` columns, of the first ``width`` of each C channels."""

    def __init__(self, of: nn.Module, C: int, width: int, reads: bool = True) -> None:
        nn.Module.__init__(self)
        assert isinstance(of, WeightNormConv1d)
        self.dilation, self.padding, self.computed = of.dilation, of.padding, of.computed

        def rows(t: Tensor) -> Tensor:
            return t.unflatten(0, (-1, C))[:, :width].flatten(0, 1)

        v = rows(of.weight_v)
        # Not parameters: slices, through which gradients go on.
        self.weight_v = v[:, :width].contiguous() if reads else v  # type: ignore[assignment]
        self.weight_g, self.bias = rows(of.weight_g), rows(of.bias)  # type: ignore[assignment]


class _End(nn.Module):
    def __init__(self, of: nn.Conv1d, width: int) -> None:
        super().__init__()
        self.weight, self.bias = of.weight[:, :width].contiguous(), of.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight, self.bias)
