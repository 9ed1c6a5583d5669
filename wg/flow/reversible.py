"""The flows of a WaveGlow with memory that does not grow with their number.

A flow is invertible, so its input need not be kept for the way back: it is computed from its
output (Gomez et al. 2017, RevNet; Jacobsen et al. 2018, i-RevNet; a flow has the inverse anyway).
The output's untransformed half makes WN's activations again, which give the gradients and undo
the coupling; the inverse of W undoes the rest. That is one more evaluation of WN, as recomputing
costs, and one WN's activations at a time.

What is undone in floating point is not quite what was: see the tests for how much. Half
precision would answer such a difference by rounding WN's input the other way, an error of its own
size; so under autocast every flow's input is kept as it was, a few channels next to WN's
thousands.
"""

from __future__ import annotations

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
    (B,), the sum of log|det| of the flows' matrices and scales, counted once per group).

    The gradients of any of the three are those of the plain flow. Intermediate x are not kept, so
    they are no one else's to differentiate.
    """
    c = model.config
    trail = _Trail()
    left = 0  # early outputs before the last computed flow
    early: list[Tensor] = []
    log_s_sum, log_det_sum = x.new_zeros(len(x)), x.new_zeros(())
    last = max((k for k in range(c.n_flows) if model.active[k]), default=None)
    for k in range(c.n_flows):
        if c.has_early_output(k):
            early.append(x[:, : c.n_early_size])
            x = x[:, c.n_early_size :]
            trail.early.append(early[-1].detach())
        if not model.active[k]:
            continue
        call = _Call(model, k, context.groups, trail, slice(left, len(early)), k == last)
        left = len(early)
        x, log_s, log_det = _Step.apply(call, x, context.features, *_trained(model, k))
        log_s_sum = log_s_sum + log_s
        log_det_sum = log_det_sum + log_det
    return torch.cat([*early, x], dim=1), log_s_sum, log_det_sum


# -- one flow -----------------------------------------------------------------------------------


def _linear(model: WaveGlow, k: int) -> list[nn.Parameter]:
    """Trained parameters of flow k's linear part."""
    parts = [model.convinv[k], *([model.actnorm[k]] if model.config.actnorm else [])]
    return [p for part in parts for p in part.parameters() if p.requires_grad]


def _coupling(model: WaveGlow, k: int) -> list[nn.Parameter]:
    """Those of its WN."""
    return [p for p in model.WN[k].parameters() if p.requires_grad]


def _trained(model: WaveGlow, k: int) -> list[nn.Parameter]:
    return [*_linear(model, k), *_coupling(model, k)]


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
    # Unchecked: a GPU would be waited for. What a singular matrix gives is not finite.
    x = torch.linalg.solve_ex(conv.matrix.double(), y.double()).result.to(y.dtype)
    return model.actnorm[k].inverse(x) if model.config.actnorm else x  # type: ignore[operator]


def _shift_and_scale(
    model: WaveGlow, k: int, a0: Tensor, context: Context, first: bool = False
) -> Tensor:
    """(b, log_s) of flow k, (B, 2 n_half, T'); ``first``: without gradients, to be repeated."""
    wn = model.coupling(k)
    return wn(a0, share(wn, model.upsample, context, repeated=first))


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


# -- its node -------------------------------------------------------------------------------------


class _Trail:
    """Where the way back stands.

    y      the output of the flow that is undone next, None before the last one
    early  outputs on the way there that no flow transforms any more
    """

    def __init__(self) -> None:
        self.y: Tensor | None = None
        self.early: list[Tensor] = []


class _Call(NamedTuple):
    """Flow k of a pass; ``early``: which outputs leave between the computed flow before it and
    itself; ``last``: no computed flow follows."""

    model: WaveGlow
    k: int
    groups: int
    trail: _Trail
    early: slice
    last: bool


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, call: _Call, x: Tensor, features: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        model, k = call.model, call.k
        mixed, log_det = _mix(model, k, x)
        a0, a1 = model._split(k, mixed)
        out = _shift_and_scale(model, k, a0, Context(features, call.groups), first=True)
        b, log_s = at_least_fp32(out).chunk(2, dim=1)
        y = model._join(k, a0, torch.exp(log_s) * a1 + b)
        ctx.call, ctx.autocast = call, _Autocast.now(x.device.type)
        # Of the states only what cannot be undone: the end, and what half precision would blur.
        state = [x] if ctx.autocast.enabled else [y] if call.last else []
        # The parameters too: a change of them in between is an error then, not a wrong gradient.
        ctx.save_for_backward(features, *state, *parameters)
        return y, log_s.sum(dim=(1, 2)), log_det

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_y: Tensor, d_log_s: Tensor, d_log_det: Tensor
    ) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        features, *saved = ctx.saved_tensors
        kept = saved[0] if ctx.autocast.enabled else None
        y = saved[0] if call.last and kept is None else call.trail.y
        assert kept is not None or y is not None, "a flow was to be undone before its successor"
        with ctx.autocast.again():
            x, d_x, d_features, grads = _undo(
                call, y, kept, features, ctx.needs_input_grad[2], d_y, d_log_s, d_log_det
            )
        call.trail.y = torch.cat([*call.trail.early[call.early], x], dim=1)
        return None, d_x, d_features, *grads


def _undo(
    call: _Call, y: Tensor | None, kept: Tensor | None, features: Tensor, features_too: bool,
    d_y: Tensor, d_log_s: Tensor, d_log_det: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor | None]]:  # fmt: skip
    """A flow's input, and the gradients of it, of the features and of :func:`_trained`, from its
    output y and d_y (B, C, T'), or from its input as it was ``kept``."""
    model, k = call.model, call.k
    if kept is not None:
        with torch.no_grad():
            y, _ = _mix(model, k, kept)  # whose second half is a1 itself
    assert y is not None
    a0, a1 = model._split(k, y)
    d_a0, d_a1 = model._split(k, d_y)
    a0 = a0.detach().requires_grad_()
    features = features.detach().requires_grad_(features_too)
    with torch.enable_grad():
        out = _shift_and_scale(model, k, a0, Context(features, call.groups))
    b, log_s = at_least_fp32(out.detach()).chunk(2, dim=1)
    scale = torch.exp(log_s)
    if kept is None:
        a1 = (a1 - b) / scale
    d_out = torch.cat([d_a1, d_a1 * scale * a1 + d_log_s[:, None, None]], dim=1)
    asked = [a0, *([features] if features_too else []), *_coupling(model, k)]
    d_through, *found = torch.autograd.grad(out, asked, d_out.to(out.dtype), allow_unused=True)
    del out  # WN's activations, before anything else is computed
    d_features = found.pop(0) if features_too else None
    d_mixed = model._join(k, d_a0 + d_through, d_a1 * scale)
    x = _unmix(model, k, model._join(k, a0.detach(), a1)) if kept is None else kept
    with torch.enable_grad():
        start = x.detach().requires_grad_()
        mixed, log_det = _mix(model, k, start)
    d_x, *linear = torch.autograd.grad(
        [mixed, log_det], [start, *_linear(model, k)], [d_mixed, d_log_det], allow_unused=True
    )
    return x, d_x, d_features, [*linear, *found]
