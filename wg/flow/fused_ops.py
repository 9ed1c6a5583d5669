"""The arithmetic of a fused WN: one pass forward, one pass back, as matrix products in place.

Three facts save work, and change nothing but rounding:

1. A convolution is one matrix product with the shifted copies of its input that its taps see. It
   adds to where the conditioning has been written already.
2. The first dilated convolution follows ``start`` with nothing between them, so together they are
   one convolution of x itself, a few channels in place of C. Where ``start``'s bias ends with
   the sequence is told by a channel of ones beside x.
3. ``end`` follows the sum over layers of the skip halves with nothing between them, so
   ``end @ skip_i`` is one matrix of 2 n_half rows in place of C. Forward, backward and weight
   gradients all need only those few rows.

So a layer carries h and the growing output as rows of one matrix ("state"), and one product adds
its residual and its output.

Shapes: (..., rows, T') throughout, with an optional batch in front; n = n_half, C channels, K
kernel size, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Stack(NamedTuple):
    """Weights of one WN as the products take them; the same fields hold their gradients.

    start      (C + 2n, n + 1)    from x and a row of ones to the state
    first      (2C, (n + 1) K)    the first dilated convolution, composed with ``start``, on
                                  :func:`columns`
    taps       (L - 1, 2C, C K)   the others
    mix        (L, C + 2n, C)     from a layer's activations to the state; the last layer's first C
                                  rows are not used
    gate_bias  (L, 2C)
    mix_bias   (L, C + 2n)        the first lies in ``start``, and the last has none
    """

    start: Tensor
    first: Tensor
    taps: Tensor
    mix: Tensor
    gate_bias: Tensor
    mix_bias: Tensor

    def to(self, dtype: torch.dtype) -> Stack:
        return Stack(*(t.to(dtype) for t in self))

    def zeros(self, dtype: torch.dtype) -> Stack:
        """Room for gradients."""
        return Stack(*(torch.zeros_like(t, dtype=dtype) for t in self))


# -- memory -----------------------------------------------------------------------------------


def by_time(like: Tensor) -> bool:
    """Whether to lay activations out time by time, not row by row. Tensor cores ask for operands
    that begin at a multiple of 16 bytes, which a shift in time keeps only so; on a CPU whole
    rows are better, whose halves are contiguous."""
    return like.is_cuda


def room(like: Tensor, rows: int) -> Tensor:
    """An empty (..., rows, T') for the batch and the time of ``like``."""
    *batch, _, T = like.shape
    if not by_time(like):
        return like.new_empty(*batch, rows, T)
    aligned = -(-rows // 8) * 8
    return like.new_empty(*batch, T, aligned)[..., :rows].mT


# -- products ---------------------------------------------------------------------------------


def add_product(out: Tensor, W: Tensor, x: Tensor) -> None:
    """out += W x, with W (O, I) shared by the batch."""
    if out.dim() == 2:
        out.addmm_(W, x)
    else:
        out.baddbmm_(W.expand(len(out), -1, -1), x)


def set_product(out: Tensor, W: Tensor, x: Tensor) -> Tensor:
    """out = W x."""
    if out.dim() == 2:
        return torch.mm(W, x, out=out)
    return torch.bmm(W.expand(len(out), -1, -1), x, out=out)


def add_outer(total: Tensor, d_out: Tensor, x: Tensor) -> None:
    """total (O, I) += d_out x^T, summed over time and batch."""
    if d_out.dim() == 2 and total.dtype == d_out.dtype:
        total.addmm_(d_out, x.mT)
    elif d_out.dim() == 2:
        total.add_(d_out @ x.mT)
    else:
        total.add_(torch.bmm(d_out, x.mT).sum(0, dtype=total.dtype))


def add_sums(total: Tensor, d_out: Tensor) -> None:
    """total (O,) += d_out, summed over time and batch."""
    over = (-1,) if d_out.dim() == 2 else (0, -1)
    total.add_(d_out.sum(over, dtype=total.dtype))


def shifts(kernel: int, dilation: int, T: int) -> Iterator[tuple[int, slice, slice]]:
    """(tap, its output columns, its input columns), the middle tap first; a tap that sees
    nothing but padding is left out."""
    for k in sorted(range(kernel), key=lambda k: abs(k - kernel // 2)):
        s = (k - kernel // 2) * dilation
        if abs(s) < T:
            yield k, slice(max(0, -s), T - max(0, s)), slice(max(0, s), T + min(0, s))


def columns(out: Tensor, x: Tensor, kernel: int, dilation: int) -> Tensor:
    """out (..., R K, T') = x (..., R, T') as every tap sees it, zeros in the padding; row
    r K + k is row r at tap k, in the order of a convolution's weight."""
    T = x.shape[-1]
    taps = out.unflatten(-2, (-1, kernel))
    if (kernel // 2) * dilation >= T:
        out.zero_()
    for k, to, at in shifts(kernel, dilation, T):
        taps[..., k, to] = x[..., at]
        taps[..., k, : to.start] = 0
        taps[..., k, to.stop :] = 0
    return out


def add_columns(total: Tensor, d: Tensor, kernel: int, dilation: int, begun: bool = True) -> None:
    """total (..., R, T') += the gradient of x from that of :func:`columns`; = when not begun."""
    taps = d.unflatten(-2, (-1, kernel))
    for k, to, at in shifts(kernel, dilation, d.shape[-1]):
        if begun:
            total[..., at] += taps[..., k, to]
        else:  # the middle tap comes first and sees every column
            total.copy_(taps[..., k, :])
            begun = True


# -- the gate ---------------------------------------------------------------------------------


def tanh_by_sigmoid(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether tanh(y) is computed as 2 sigmoid(2y) - 1, five times as fast on a CPU. The error is
    a rounding of 1, not of tanh: too much for half precision."""
    return device.type == "cpu" and dtype in (torch.float32, torch.float64)


def gate_(gates: Tensor, minus_one: Tensor | None) -> tuple[Tensor, Tensor]:
    """In place: (tanh of the first half, sigmoid of the second). With ``minus_one``, a scalar
    tensor, the first half comes doubled, see :func:`tanh_by_sigmoid`."""
    t, s = gates.chunk(2, dim=-2)
    if minus_one is None:
        t.tanh_()
        s.sigmoid_()
    else:
        gates.sigmoid_()
        torch.add(minus_one, t, alpha=2, out=t)
    return t, s


def gate_backward(
    d_acts: Tensor, t: Tensor, s: Tensor, doubled: bool, d_gates: Tensor, spare: Tensor
) -> None:
    """d_gates (..., 2C, T') of tanh * sigmoid; ``spare`` is overwritten."""
    d_t, d_s = d_gates.chunk(2, dim=-2)
    torch.mul(d_acts, s, out=spare)
    torch.ops.aten.tanh_backward.grad_input(spare, t, grad_input=d_t)
    if doubled:
        d_t.mul_(0.5)
    torch.mul(d_acts, t, out=spare)
    torch.ops.aten.sigmoid_backward.grad_input(spare, s, grad_input=d_s)


# -- WN ---------------------------------------------------------------------------------------


@dataclass
class Kept:
    """What the way back needs: :func:`columns` of x and ones, every layer's tanh and sigmoid
    (..., 2CL, T'), and every later layer's input, the first rows of a (..., C + 2n, T') each."""

    columns: Tensor
    gates: Tensor
    states: list[Tensor]


def forward(
    W: Stack, dilations: Sequence[int], x: Tensor, gates: Tensor, minus_one: Tensor | None
) -> tuple[Tensor, Kept]:
    """x (..., n, T') -> (b, log_s) as (..., 2n, T').

    gates (..., 2CL, T') holds what the mel and the biases give every layer; it is overwritten.
    """
    C, n1 = W.mix.shape[2], W.start.shape[1]
    K = W.first.shape[1] // n1
    ones = torch.cat([x, torch.ones_like(x[..., :1, :])], dim=-2)
    kept = Kept(columns(room(x, n1 * K), ones, K, dilations[0]), gates, [])
    state = set_product(room(x, len(W.start)), W.start, ones)
    acts, seen = room(x, C), room(x, C * K)
    for i, (layer, dilation) in enumerate(zip(gates.split(2 * C, -2), dilations, strict=True)):
        if i == 0:
            add_product(layer, W.first, kept.columns)
        else:
            add_product(layer, W.taps[i - 1], columns(seen, state[..., :C, :], K, dilation))
        t, s = gate_(layer, minus_one)
        torch.mul(t, s, out=acts)
        if i == len(dilations) - 1:
            break
        if i > 0:  # the first state is needed no more: it may be changed in place
            state = torch.add(state, W.mix_bias[i, :, None], out=room(x, len(W.start)))
        add_product(state, W.mix[i], acts)
        kept.states.append(state)
    out = state[..., C:, :].contiguous()
    add_product(out, W.mix[-1, C:], acts)
    return out, kept


def backward(
    W: Stack, dilations: Sequence[int], kept: Kept, d_out: Tensor, doubled: bool, dW: Stack
) -> tuple[Tensor, Tensor]:
    """d_out (..., 2n, T') -> (dx, d_gates) of the shapes of x and gates, and the gradients of the
    weights added to ``dW``."""
    C, n1 = W.mix.shape[2], W.start.shape[1]
    K = W.first.shape[1] // n1
    d_state = room(d_out, len(W.start))
    d_state[..., C:, :] = d_out
    d_h = d_state[..., :C, :]
    d_gates = room(d_out, kept.gates.shape[-2])
    acts, d_acts, seen = room(d_out, C), room(d_out, C), room(d_out, C * K)
    last = len(dilations) - 1
    if last == 0:
        d_h.zero_()
    for i in range(last, -1, -1):
        layer = slice(i * 2 * C, (i + 1) * 2 * C)
        t, s = kept.gates[..., layer, :].chunk(2, dim=-2)
        torch.mul(t, s, out=acts)
        rows = slice(C if i == last else 0, None)
        d_mixed = d_state[..., rows, :]
        add_outer(dW.mix[i, rows], d_mixed, acts)
        set_product(d_acts, W.mix[i, rows].mT, d_mixed)
        d_layer = d_gates[..., layer, :]
        gate_backward(d_acts, t, s, doubled, d_layer, acts)
        if i == 0:
            break
        if i < last:
            add_sums(dW.mix_bias[i], d_state)
        columns(seen, kept.states[i - 1][..., :C, :], K, dilations[i])
        add_outer(dW.taps[i - 1], d_layer, seen)
        set_product(seen, W.taps[i - 1].mT, d_layer)  # seen before, its gradient now
        add_columns(d_h, seen, K, dilations[i], begun=i < last)
    add_sums(dW.gate_bias.view(-1), d_gates)
    add_outer(dW.first, d_layer, kept.columns)
    ones = kept.columns[..., K // 2 :: K, :]
    add_outer(dW.start, d_state, ones)
    d_columns = set_product(room(d_out, n1 * K), W.first.mT, d_layer)
    d_ones = set_product(room(d_out, n1), W.start[:C].mT, d_h)
    add_columns(d_ones, d_columns, K, dilations[0])
    return d_ones[..., :-1, :], d_gates
