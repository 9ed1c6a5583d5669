"""A convolution whose three products (output, gradient of the input, gradient of the weight) are
made of 8-bit floating point numbers.

Activations and weights in e4m3 (4 bits of exponent, 3 of mantissa), gradients, whose range is
wider, in e5m2; each tensor is scaled so that its largest entry is the format's largest number, at
every call anew. Sums are kept in fp32 by the hardware. Source: Micikevicius et al. 2022, "FP8
formats for deep learning", https://arxiv.org/abs/2209.05433, section 4.

PyTorch has no fp8 convolution, but one over time is a matrix product of shifted rows, and shifting
8-bit rows is cheap.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
ALIGNED = 16  # bytes: every inner dimension, and every row of the second factor, in cuBLASLt
LEAST_CAPABILITY = (8, 9)  # of an NVIDIA GPU: Ada and Hopper brought the first fp8 tensor cores


def fits(weight: Tensor) -> bool:
    """Whether a convolution with ``weight`` (O, I, K) can be made of 8-bit products."""
    return weight.shape[0] % ALIGNED == 0 and weight.shape[1] % ALIGNED == 0


def conv1d(x: Tensor, weight: Tensor, bias: Tensor, padding: int, dilation: int) -> Tensor:
    """x (B, I, T), weight (O, I, K) that :func:`fits`, bias (O,) -> (B, O, T), in autocast's dtype
    or that of x. Same length out as in: 2 padding = dilation (K - 1). Rows of channels lie
    together in the result, as the next one wants them."""
    assert 2 * padding == dilation * (weight.shape[2] - 1), "the length must stay"
    device = x.device.type
    cast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if cast else x.dtype
    out: Tensor = _Conv.apply(x, weight, bias, dilation, dtype)
    return out


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int, dtype: torch.dtype
    ) -> Tensor:
        B, _, T = x.shape
        x8, x_scale = quantised(x.transpose(1, 2), E4M3)
        w8, w_scale = quantised(weight, E4M3)
        rows = _shifted(x8, weight.shape[2], dilation)  # (B T, K I)
        out = _product(rows, _moved(w8, (0, 2, 1)).flatten(1), x_scale, w_scale, dtype)
        out = out + bias.to(dtype)
        ctx.save_for_backward(x8, x_scale, w8, w_scale)
        ctx.dilation, ctx.dtypes = dilation, (x.dtype, weight.dtype, bias.dtype)
        return out.view(B, T, -1).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x8, x_scale, w8, w_scale = ctx.saved_tensors
        x_dtype, w_dtype, b_dtype = ctx.dtypes
        B, T, _ = x8.shape
        K = w8.shape[2]
        d8, d_scale = quantised(d_out.transpose(1, 2), E5M2)
        d_x = d_weight = d_bias = None
        if ctx.needs_input_grad[0]:
            # The same sum seen from the input: the kernel turned round, its sides exchanged.
            turned = _moved(w8.view(torch.uint8).flip(2).view(E4M3), (1, 2, 0)).flatten(1)
            rows = _shifted(d8, K, ctx.dilation)
            d_x = _product(rows, turned, d_scale, w_scale, x_dtype).view(B, T, -1).transpose(1, 2)
        if ctx.needs_input_grad[1]:
            rows = _aligned(_shifted(x8, K, ctx.dilation))
            d_rows = _aligned(d8.flatten(0, 1))
            d_weight = _product(
                _moved(d_rows, (1, 0)), _moved(rows, (1, 0)), d_scale, x_scale, torch.float32
            )
            d_weight = d_weight.to(w_dtype).unflatten(1, (K, -1)).transpose(1, 2)
        if ctx.needs_input_grad[2]:
            d_bias = d_out.sum(dim=(0, 2), dtype=torch.float32).to(b_dtype)
        return d_x, d_weight, d_bias, None, None


def quantised(x: Tensor, form: torch.dtype) -> tuple[Tensor, Tensor]:
    """x -> (contiguous 8-bit x, scale ()), x being nearly their product. What is not finite
    becomes NaN, never a number."""
    largest = torch.finfo(form).max
    peak = x.detach().abs().amax().float()
    scale = torch.where(peak > 0, peak / largest, 1.0)
    # PyTorch's conversion does not saturate, and the quotient may round to beyond the largest.
    scaled = (x.float() / scale).clamp(-largest, largest)
    return scaled.to(form).contiguous(), scale


def _product(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """a (N, M), b (O, M), both rows of 8 bits -> a_scale b_scale a b^T (N, O)."""
    if a.device.type == "cpu":  # for which not every PyTorch has the product
        with torch.autocast("cpu", enabled=False):
            return (a.float() @ b.float().t()).mul_(a_scale * b_scale).to(dtype)
    one = F.ScalingType.TensorWise  # type: ignore[attr-defined]
    out: Tensor = F.scaled_mm(  # type: ignore[attr-defined]
        a, b.t(), a_scale, one, b_scale, one, output_dtype=dtype
    )
    return out


def _moved(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """x permuted, in memory too."""
    return x.view(torch.uint8).permute(order).contiguous().view(x.dtype)


def _shifted(x: Tensor, K: int, dilation: int) -> Tensor:
    """x (B, T, C) -> (B T, K C): beside every row those that a kernel of K taps reads, zeros
    beyond the ends."""
    B, T, C = x.shape
    if K == 1:
        return x.reshape(B * T, C)
    side = dilation * (K - 1) // 2
    bits = F.pad(x.view(torch.uint8), (0, 0, side, side))  # the byte 0 is the number 0
    taps = [bits[:, k * dilation : k * dilation + T] for k in range(K)]
    return torch.cat(taps, dim=2).view(B * T, K * C).view(x.dtype)


def _aligned(rows: Tensor) -> Tensor:
    """Rows of zeros added up to a multiple of :data:`ALIGNED`."""
    return F.pad(rows.view(torch.uint8), (0, 0, 0, -len(rows) % ALIGNED)).view(rows.dtype)
