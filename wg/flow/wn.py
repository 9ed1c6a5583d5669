"""WN: the dilated, gated convolution stack inside an affine coupling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wg.flow import fused
from wg.flow.conditioning import Context, MelPath, TransposedConv
from wg.flow.config import FlowConfig
from wg.flow.layers import WeightNormConv1d


class WN(nn.Module):
    """Predicts (b, log_s) of one half of the channels from the other half and the mel
    (Prenger et al. 2018, section 2.1; van den Oord et al. 2016 without causality).

    The last convolution starts at zero, so that a new coupling is the identity.

    fused      compute by :mod:`wg.flow.fused` where that can be
    recompute  keep only the input for the way back, and compute the rest a second time
    """

    def __init__(self, n_half: int, config: FlowConfig, n_cond: int) -> None:
        """n_half: channels of the half that is read; n_cond: of what ``cond_layer`` reads."""
        super().__init__()
        C, L = config.n_channels, config.n_layers
        self.n_channels, self.n_layers = C, L
        self.fused = self.recompute = False
        self.start = WeightNormConv1d(n_half, C)
        self.cond_layer = WeightNormConv1d(n_cond, 2 * C * L)
        self.in_layers = nn.ModuleList(
            WeightNormConv1d(C, 2 * C, config.kernel_size, dilation=2**i) for i in range(L)
        )
        # The last layer feeds only the skip sum: it has no residual half.
        self.res_skip_layers = nn.ModuleList(
            WeightNormConv1d(C, 2 * C if i < L - 1 else C) for i in range(L)
        )
        self.end = nn.Conv1d(C, 2 * n_half, 1)
        nn.init.zeros_(self.end.weight)
        assert self.end.bias is not None
        nn.init.zeros_(self.end.bias)

    def forward(
        self, x: Tensor, projected: Tensor | Unprojected, beyond: Tensor | None = None
    ) -> Tensor:
        """x (B, n_half, T') -> (B, 2 * n_half, T').

        projected (B, 2 * C * L, T') is what ``cond_layer`` makes of the grouped mel
        (B, n_mels * n_group, T'). It is the caller's to compute, because it depends on the mel
        alone and both directions can share it; or what :func:`share` gives instead.

        beyond (B, 1, T') is true where an item of a batch of unequal lengths has ended: there
        every layer sees the zeros that its padding would give the item alone.
        """
        repeated = isinstance(projected, Unprojected) and projected.repeated
        trains = torch.is_grad_enabled() or repeated
        if beyond is None and self.fused and trains and fused.usable(self, x):
            if isinstance(projected, Unprojected) and _is_composed(projected.path):
                projected = projected.path.project(self.cond_layer, projected.context)
            if isinstance(projected, Unprojected):
                return fused.couple(self, x, *fused.form(projected.path, projected.context))
            return fused.couple(self, x, "projected", projected)
        if not (self.recompute and torch.is_grad_enabled()):
            return self._layers(x, projected, beyond)
        # Nothing here is drawn at random.
        again: Tensor = checkpoint(
            self._layers, x, projected, beyond, use_reentrant=False, preserve_rng_state=False
        )
        return again

    def _layers(self, x: Tensor, projected: Tensor | Unprojected, beyond: Tensor | None) -> Tensor:
        if isinstance(projected, Unprojected):
            projected = projected.path.project(self.cond_layer, projected.context)
        C = self.n_channels
        h = _silence(self.start(x), beyond)
        conds = projected.split(2 * C, dim=1)
        skip: Tensor | None = None
        for i in range(self.n_layers):
            gates = self.in_layers[i](h) + conds[i]
            acts = torch.tanh(gates[:, :C]) * torch.sigmoid(gates[:, C:])
            out = self.res_skip_layers[i](acts)
            if i < self.n_layers - 1:
                h = _silence(h + out[:, :C], beyond)
                out = out[:, C:]
            skip = out if skip is None else skip + out
        assert skip is not None
        return self.end(skip)


class Unprojected(NamedTuple):
    """The mel's context and its way, where the projection is WN's own to make.

    repeated  a pass without gradients that a pass with them will repeat
    """

    path: MelPath
    context: Context
    repeated: bool = False


def share(
    wn: nn.Module, path: MelPath, context: Context, repeated: bool = False
) -> Tensor | Unprojected:
    """What to call ``wn`` with: its projection of the mel, or, where it will not keep that, the
    context that all flows share."""
    trains = torch.is_grad_enabled() or repeated
    if isinstance(wn, WN) and (wn.fused or wn.recompute) and trains:
        return Unprojected(path, context, repeated)
    return path.project(wn.cond_layer, context)  # type: ignore[arg-type]


def _is_composed(path: MelPath) -> bool:
    return isinstance(path, TransposedConv) and path.composed


def _silence(h: Tensor, beyond: Tensor | None) -> Tensor:
    # Filled, not multiplied: what lies beyond an item's end may be anything, infinity included.
    return h if beyond is None else h.masked_fill(beyond, 0.0)
