"""The published upsampling of the mel as matrix products, for training on a CPU.

A transposed convolution makes every frame's kernel_size samples and adds what overlaps; PyTorch's
does so through a column buffer and a second pass. Here the samples of a hop are a sum over the
J = kernel_size / stride frames that reach it, one product each, straight into place, and the
weight's gradient is written once, without a buffer or zeros before it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def can_fuse(layer: nn.ConvTranspose1d, mel: Tensor) -> bool:
    """Whether :func:`grouped` is for this call: elsewhere the layer itself is the better way."""
    return (
        torch.is_grad_enabled()
        and layer.weight.requires_grad
        and not mel.requires_grad
        and mel.device.type == "cpu"
        and not torch.compiler.is_compiling()
    )


def grouped(layer: nn.ConvTranspose1d, mel: Tensor, samples: int, n_group: int) -> Tensor:
    """mel (B, M, F) -> the upsampled mel of the first ``samples`` samples, in groups:
    (B, O * n_group, T'), index o * n_group + offset in the group, as ``layer`` gives it.

    Computed in the dtype of the weight even under autocast, which decides the result's only: on
    a CPU half precision would not be faster here.
    """
    assert layer.bias is not None
    with torch.autocast("cpu", enabled=False):
        out: Tensor = _Grouped.apply(
            mel.to(layer.weight.dtype), layer.weight, layer.bias, layer.stride[0], samples, n_group
        )
    return out.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else out


def _shifted(mel: Tensor, n: int, j: int) -> Tensor:
    """The frame j before each of the first n, zeros before the first: (B * n, M)."""
    B, M, n_frames = mel.shape
    there = mel[:, :, : max(0, min(n - j, n_frames))]
    padded = F.pad(there, (min(j, n), max(0, n - j - n_frames)))
    return padded.transpose(1, 2).reshape(B * n, M)


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mel: Tensor, weight: Tensor, bias: Tensor, stride: int, samples: int, n_group: int
    ) -> Tensor:
        M, n_out, kernel = weight.shape
        B, n, groups = len(mel), -(-samples // stride), samples // n_group
        # One product for every band o: (B n, M) (M, stride) -> its samples, hop after hop.
        up = bias[:, None, None].expand(n_out, B * n, stride).contiguous()
        taps = weight.permute(1, 0, 2)
        for j, first in enumerate(range(0, kernel, stride)):
            part = taps[:, :, first : first + stride]
            up[:, :, : part.shape[2]].baddbmm_(_shifted(mel, n, j).expand(n_out, B * n, M), part)
        ctx.save_for_backward(mel)
        ctx.sizes = (weight.shape, stride, n, n_group)
        up = up.view(n_out, B, n * stride)[:, :, :samples].reshape(n_out, B, groups, n_group)
        return up.permute(1, 0, 3, 2).reshape(B, n_out * n_group, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        (mel,) = ctx.saved_tensors
        (M, n_out, kernel), stride, n, n_group = ctx.sizes
        B, groups = len(mel), d.shape[2]
        d_up = d.new_empty(n_out, B, n * stride)
        d_up[:, :, groups * n_group :] = 0
        d_up[:, :, : groups * n_group].view(n_out, B, groups, n_group).copy_(
            d.view(B, n_out, n_group, groups).permute(1, 0, 3, 2)
        )
        d_up = d_up.view(n_out, B * n, stride)
        d_weight = d.new_empty(M, n_out, kernel)
        d_taps = d_weight.permute(1, 0, 2)
        for j, first in enumerate(range(0, kernel, stride)):
            part = d_taps[:, :, first : first + stride]
            frames = _shifted(mel, n, j).T.expand(n_out, M, B * n)
            torch.bmm(frames, d_up[:, :, : part.shape[2]], out=part)
        return None, d_weight, d_up.sum((1, 2)), None, None, None
