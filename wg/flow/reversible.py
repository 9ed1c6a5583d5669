"""The flows of a WaveGlow as one autograd node whose memory does not grow with their number.

A flow is invertible, so its input need not be kept for the way back: it is computed from its
output (Gomez et al. 2017; for flows Jacobsen et al. 2018, i-RevNet). One flow at a time, the
output's untransformed half makes WN's activations again, they give the gradients and undo the
coupling, and the inverse of W undoes the rest: one more evaluation of WN, as recomputing costs.

What is undone in floating point is not quite what was: the inverse is the vocoder's own, whose
error over all flows is of the order of 1e-6 of z in fp32. Half precision would answer such a
difference by rounding WN's input the other way, an error of its own size; so under autocast every
flow's input is kept as it was. It is a few channels, next to WN's thousands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wg.flow.conditioning import Context
from wg.flow.layers import Invertible1x1Conv, at_least_fp32
from wg.flow.wn import share

if TYPE_CHECKING:
    from wg.flow.waveglow import WaveGlow


def flow(model: WaveGlow, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
    """All flows of ``model``: x (B, n_group, T') -> (z (B, n_group, T'), the sum of all log_s
    (B,), the sum of log|det| of the flows' matrices and scales, counted once per group)."""
    parameters = [p for k in _computed(model) for p in _parameters(model, k) if p.requires_grad]
    z, log_s, log_det = _Flow.apply(model, context.groups, x, context.features, *parameters)
    return z, log_s, log_det


# -- one flow -----------------------------------------------------------------------------------


def _computed(model: WaveGlow) -> list[int]:
    return [k for k in range(model.config.n_flows) if model.active[k]]


def _parameters(model: WaveGlow, k: int) -> Iterator[nn.Parameter]:
    if model.config.actnorm:
        yield from model.actnorm[k].parameters()
    yield from model.convinv[k].parameters()
    yield from model.WN[k].parameters()


def _mix(model: WaveGlow, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """The linear part: (B, C, T') -> (the same, log|det| counted once per group)."""
    total = x.new_zeros(())
    with torch.autocast(x.device.type, enabled=False):
        if model.config.actnorm:
            x, total = model.actnorm[k](x)
        x, log_det = model.convinv[k](x)
    return x, total + log_det


@torch.no_grad()
def _unmix(model: WaveGlow, k: int, y: Tensor) -> Tensor:
    """The inverse of :func:`_mix`. In fp64, which 8 channels do not feel: the forward pass has
    rounded, and twice is enough."""
    conv = model.convinv[k]
    assert isinstance(conv, Invertible1x1Conv)
    x = torch.linalg.solve(conv.matrix.double(), y.double()).to(y.dtype)
    return model.actnorm[k].inverse(x) if model.config.actnorm else x  # type: ignore[operator]


def _shift_and_scale(model: WaveGlow, k: int, a0: Tensor, context: Context) -> Tensor:
    """(b, log_s) of flow k, (B, 2 n_half, T')."""
    return model.WN[k](a0, share(model.WN[k], model.upsample, context))


class _Autocast(NamedTuple):
    """The state of autocast on a device, for a second evaluation like the first."""

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def now(cls, device: str) -> _Autocast:
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def again(self) -> torch.autocast:
        return torch.autocast(self.device, self.dtype, self.enabled)


# -- all flows ----------------------------------------------------------------------------------


class _Flow(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, model: WaveGlow, groups: int, x: Tensor, features: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        c, context = model.config, Context(features, groups)
        ctx.autocast = _Autocast.now(x.device.type)
        early, inputs = [], []
        log_s_sum, log_det_sum = x.new_zeros(len(x)), x.new_zeros(())
        for k in range(c.n_flows):
            if c.has_early_output(k):
                early.append(x[:, : c.n_early_size])
                x = x[:, c.n_early_size :]
            if not model.active[k]:
                continue
            if ctx.autocast.enabled:
                inputs.append(x)
            x, log_det = _mix(model, k, x)
            a0, a1 = model._split(k, x)
            b, log_s = at_least_fp32(_shift_and_scale(model, k, a0, context)).chunk(2, dim=1)
            x = model._join(k, a0, torch.exp(log_s) * a1 + b)
            log_s_sum = log_s_sum + log_s.sum(dim=(1, 2))
            log_det_sum = log_det_sum + log_det
        z = torch.cat([*early, x], dim=1)
        ctx.model, ctx.groups, ctx.active = model, groups, list(model.active)
        # The parameters too, so that a change of them in between is an error, not a wrong gradient.
        ctx.save_for_backward(z, features, *inputs, *parameters)
        ctx.n_inputs = len(inputs)
        return z, log_s_sum, log_det_sum

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_z: Tensor, d_log_s: Tensor, d_log_det: Tensor
    ) -> tuple[Tensor | None, ...]:
        model, c = ctx.model, ctx.model.config
        z, features = ctx.saved_tensors[:2]
        inputs = list(ctx.saved_tensors[2 : 2 + ctx.n_inputs])
        parameters = ctx.saved_tensors[2 + ctx.n_inputs :]
        way = _WayBack(model, Context(features, ctx.groups), ctx.needs_input_grad[3])
        grads: dict[int, Sequence[Tensor | None]] = {}
        n_left = c.channels(c.n_flows - 1)
        x, z = z[:, -n_left:], z[:, :-n_left]
        d, d_z = d_z[:, -n_left:], d_z[:, :-n_left]
        for k in reversed(range(c.n_flows)):
            if ctx.active[k]:
                kept = inputs.pop() if ctx.autocast.enabled else None
                with ctx.autocast.again():
                    x, d, grads[k] = way.flow(k, x, kept, d, d_log_s, d_log_det)
            if c.has_early_output(k):
                x = torch.cat([z[:, -c.n_early_size :], x], dim=1)
                d = torch.cat([d_z[:, -c.n_early_size :], d], dim=1)
                z, d_z = z[:, : -c.n_early_size], d_z[:, : -c.n_early_size]
        flat = [g for k in sorted(grads) for g in grads[k]]
        assert len(flat) == len(parameters)
        return None, None, d, way.d_features, *flat


class _WayBack:
    """Undoes flows and finds gradients; ``d_features`` is the sum over the flows undone."""

    def __init__(self, model: WaveGlow, context: Context, wanted: bool) -> None:
        self.model = model
        self.features = context.features.detach().requires_grad_(wanted)
        self.context = Context(self.features, context.groups)
        self.d_features: Tensor | None = None

    def flow(
        self, k: int, y: Tensor, kept: Tensor | None, d_y: Tensor, d_log_s: Tensor,
        d_log_det: Tensor,
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:  # fmt: skip
        """Flow k's input, its gradient and its parameters', from its output y and d_y
        (B, C, T'), and the input as it was, if it was kept."""
        model = self.model
        if kept is not None:
            with torch.no_grad():
                mixed, _ = _mix(model, k, kept)
                a0, a1 = model._split(k, mixed)
        else:
            a0, a1 = model._split(k, y)
        d_a0, d_a1 = model._split(k, d_y)
        a0 = a0.detach().requires_grad_()
        with torch.enable_grad():
            out = _shift_and_scale(model, k, a0, self.context)
        b, log_s = at_least_fp32(out.detach()).chunk(2, dim=1)
        scale = torch.exp(log_s)
        if kept is None:
            a1 = (a1 - b) / scale
        d_out = torch.cat([d_a1, d_a1 * scale * a1 + d_log_s[:, None, None]], dim=1)
        wn = [p for p in model.WN[k].parameters() if p.requires_grad]
        features = [self.features] if self.features.requires_grad else []
        found = torch.autograd.grad(
            out, [a0, *features, *wn], d_out.to(out.dtype), allow_unused=True
        )
        del out  # WN's activations, before the rest is computed
        if features:
            self._add(found[1])
        d_mixed = model._join(k, d_a0 + found[0], d_a1 * scale)
        x = kept if kept is not None else _unmix(model, k, model._join(k, a0.detach(), a1))
        d_x, linear = self._unmix_gradient(k, x, d_mixed, d_log_det)
        return x, d_x, [*linear, *found[1 + len(features) :]]

    def _unmix_gradient(
        self, k: int, x: Tensor, d_mixed: Tensor, d_log_det: Tensor
    ) -> tuple[Tensor, list[Tensor | None]]:
        n_wn = len(list(self.model.WN[k].parameters()))
        parameters = list(_parameters(self.model, k))[:-n_wn]
        parameters = [p for p in parameters if p.requires_grad]
        with torch.enable_grad():
            start = x.detach().requires_grad_()
            mixed, log_det = _mix(self.model, k, start)
        d_x, *rest = torch.autograd.grad(
            [mixed, log_det], [start, *parameters], [d_mixed, d_log_det], allow_unused=True
        )
        assert d_x is not None
        return d_x, rest

    def _add(self, d_features: Tensor | None) -> None:
        if self.d_features is None:
            self.d_features = d_features
        elif d_features is not None:
            # The first one is nobody else's: it was made by autograd.grad above.
            self.d_features += d_features
