"""WN in training as one autograd node: faster and smaller than its operations one by one.

:func:`couple` gives what ``WN`` gives, to rounding, with the same parameters and their
gradients. It is for training alone: without gradients, inside a tracer or compiler, and for
weights without norm the plain WN computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wg.flow import fused_ops
from wg.flow.conditioning import Context, Interpolation, MelPath
from wg.flow.fused_cond import AtFrames, AtGroups, Projected
from wg.flow.fused_ops import Kept, Stack
from wg.flow.fused_weights import Weights, parameters_of
from wg.flow.layers import WeightNormConv1d

if TYPE_CHECKING:
    from wg.flow.wn import WN


def form(path: MelPath, context: Context) -> tuple[str, Tensor, Tensor | None]:
    """The last arguments of :func:`couple`, from the mel's way."""
    if not isinstance(path, Interpolation):
        return "groups", context.features, None
    at = torch.arange(path.groups_per_frame, device=context.features.device)
    return "frames", context.features, (path.n_group * (at + 0.5) - 0.5) / path.hop


def usable(wn: WN, x: Tensor) -> bool:
    """Whether this call can be fused, if it is one of training."""
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and x.device.type in ("cpu", "cuda")
        and isinstance(wn.cond_layer, WeightNormConv1d)
        and isinstance(wn.start, WeightNormConv1d)
    )


@dataclass(frozen=True)
class _Call:
    """What a call is, apart from its tensors.

    form       "projected", "groups" or "frames": see :mod:`wg.flow.fused_cond`
    dtype      of the products
    groups     T'
    dilations  of the layers
    keep       activations for the way back, which otherwise computes them again
    """

    form: str
    dtype: torch.dtype
    groups: int
    dilations: tuple[int, ...]
    keep: bool


def couple(wn: WN, x: Tensor, form: str, features: Tensor, at: Tensor | None = None) -> Tensor:
    """x (B, n_half, T') -> (B, 2 * n_half, T').

    form       what ``features`` are: "projected" is ``cond_layer`` applied already,
               (B, 2CL, T'); "groups" and "frames" are what it is to be applied to, (B, M, T') and
               (B, M, n + 1)
    at         (G,) for "frames": where the groups of a frame lie between it and the next

    Under autocast the products are made in its dtype, and weights' gradients are summed in fp32.
    """
    device = x.device.type
    cast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if cast else x.dtype
    dilations = tuple(2**i for i in range(wn.n_layers))
    keep = torch.is_grad_enabled() and not wn.recompute
    call = _Call(form, dtype, x.shape[2], dilations, keep)
    out: Tensor = _FusedWN.apply(
        call, x, features, at, *parameters_of(wn, with_cond=form != "projected")
    )
    return out


class _FusedWN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, call: _Call, x: Tensor, features: Tensor, at: Tensor | None, *flat: Tensor
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weights = _weights(call, flat)
            outs: list[Tensor] = []
            kept: list[Tensor] = []
            for out, k in _forward(call, weights, x, features, at):
                outs.append(out)
                if call.keep:
                    kept += [k.columns, k.gates, *k.states]
        ctx.call, ctx.at, ctx.n_flat = call, at, len(flat)
        ctx.weights = weights if call.keep else None
        ctx.save_for_backward(*flat, x, features, *kept)
        return _batch(outs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        call, n = ctx.call, ctx.n_flat
        flat, (x, features), rest = (
            ctx.saved_tensors[:n], ctx.saved_tensors[n : n + 2], ctx.saved_tensors[n + 2 :]
        )  # fmt: skip
        with torch.autocast(x.device.type, enabled=False):
            kept: Iterator[Kept]
            if call.keep:
                weights = ctx.weights
                each = len(call.dilations) + 1
                starts = range(0, len(rest), each)
                kept = (Kept(rest[i], rest[i + 1], list(rest[i + 2 : i + each])) for i in starts)
            else:
                weights = _weights(call, flat)
                kept = (k for _, k in _forward(call, weights, x, features, ctx.at))
            wanted = ctx.needs_input_grad[2]
            d_x, d_features, d_flat = _backward(
                call, weights, kept, d_out, features, ctx.at, wanted
            )
        return None, d_x.to(x.dtype), d_features, None, *d_flat


def _weights(call: _Call, flat: Sequence[Tensor]) -> Weights:
    doubled = fused_ops.tanh_by_sigmoid(flat[0].device, call.dtype)
    return Weights(flat, len(call.dilations), doubled, call.dtype)


def _items(t: Tensor) -> Sequence[Tensor]:
    """A GPU computes a batch at once. A CPU computes its items one by one: what one of them needs
    stays in the cache."""
    return [t] if t.device.type == "cuda" else t.unbind(0)


def _conditioning(
    call: _Call, weights: Weights, features: Tensor, at: Tensor | None
) -> Projected | AtGroups | AtFrames:
    if call.form == "projected":
        scale = weights.row_scale
        return Projected(
            features, None if scale is None else scale.repeat(len(call.dilations))[:, None]
        )
    assert weights.cond is not None
    if call.form == "groups":
        return AtGroups(features, weights.cond)
    assert at is not None
    return AtFrames(features, weights.cond, at.to(call.dtype), call.groups)


def _batch(items: Sequence[Tensor]) -> Tensor:
    """The inverse of :func:`_items`."""
    return items[0] if items[0].dim() == 3 else torch.stack(list(items))


def _forward(
    call: _Call, weights: Weights, x: Tensor, features: Tensor, at: Tensor | None
) -> Iterator[tuple[Tensor, Kept]]:
    """Item by item: (its output, what its way back needs)."""
    x, features = x.to(call.dtype), features.to(call.dtype)
    minus_one = None if weights.row_scale is None else x.new_tensor(-1.0)
    bias = weights.stack.gate_bias.view(-1, 1)
    for x_i, features_i in zip(_items(x), _items(features), strict=True):
        gates = _conditioning(call, weights, features_i, at).gates(bias)
        yield fused_ops.forward(weights.stack, call.dilations, x_i, gates, minus_one)


def _backward(
    call: _Call, weights: Weights, kept: Iterator[Kept], d_out: Tensor, features: Tensor,
    at: Tensor | None, wanted: bool,
) -> tuple[Tensor, Tensor | None, list[Tensor]]:  # fmt: skip
    """Gradients of x, of the features if they are wanted, and of the parameters."""
    dtype = weights.end.dtype
    dW: Stack = weights.stack.zeros(dtype)
    d_cond = None if weights.cond is None else torch.zeros_like(weights.cond, dtype=dtype)
    cast = features.to(call.dtype)
    d_features = torch.empty_like(cast) if wanted else None
    d_features_items = [None] * len(cast) if d_features is None else _items(d_features)
    d_xs = []
    for d_i, features_i, d_features_i in zip(
        _items(d_out.to(call.dtype)), _items(cast), d_features_items, strict=False
    ):
        # Asked for one by one: where they are computed again, one item's are held at a time.
        d_x, d_gates = fused_ops.backward(
            weights.stack, call.dilations, next(kept), d_i, weights.row_scale is not None, dW
        )
        _conditioning(call, weights, features_i, at).pull(d_gates, d_features_i, d_cond)
        d_xs.append(d_x)
    d_flat = weights.pull(dW, d_cond)
    return _batch(d_xs), None if d_features is None else d_features.to(features.dtype), d_flat
