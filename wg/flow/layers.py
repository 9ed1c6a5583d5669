"""The two linear pieces of a flow: weight-normalised convolution and invertible 1x1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wg.flow import fp8


class WeightNormConv1d(nn.Module):
    """Conv1d whose weight is ``g * v / |v|`` per output channel (Salimans & Kingma 2016).

    Parameters are named ``weight_g`` (O, 1, 1), ``weight_v`` (O, I, K) and ``bias`` (O,) as in
    every published WaveGlow checkpoint. PyTorch's own module of those names is deprecated and
    keeps a non-leaf ``weight`` that breaks deepcopy; its successor renames the parameters.

    computed   as WN is: "channels_last": as an image of one line whose channels lie together in
               memory; "fp8": by :mod:`wg.flow.fp8` where the sizes allow; else as PyTorch's conv1d
    """

    computed: str = "plain"

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        conv = nn.Conv1d(in_channels, out_channels, kernel_size)  # PyTorch's default init
        assert conv.bias is not None
        weight = conv.weight.detach()
        self.bias = nn.Parameter(conv.bias.detach().clone())
        self.weight_g = nn.Parameter(weight.flatten(1).norm(dim=1).view(-1, 1, 1))
        self.weight_v = nn.Parameter(weight.clone())
        self.dilation = dilation
        self.padding = dilation * (kernel_size - 1) // 2

    @property
    def weight(self) -> Tensor:
        """The effective weight (O, I, K), differentiable in g and v."""
        return torch._weight_norm(self.weight_v, self.weight_g, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, T) -> (B, O, T)."""
        weight, bias = self.weight, self.bias
        if self.computed == "fp8" and fp8.fits(weight):
            return fp8.conv1d(x, weight, bias, self.padding, self.dilation)
        if self.computed != "channels_last":
            return F.conv1d(x, weight, bias, padding=self.padding, dilation=self.dilation)
        # No copy of x where it is the result of such a convolution.
        line, taps = (
            t.unsqueeze(2).contiguous(memory_format=torch.channels_last) for t in (x, weight)
        )
        padding, dilation = (0, self.padding), (1, self.dilation)
        return F.conv2d(line, taps, bias, padding=padding, dilation=dilation).squeeze(2)

    @torch.no_grad()
    def folded(self) -> nn.Conv1d:
        """A plain convolution of the same function, for inference."""
        out_channels, in_channels, kernel_size = self.weight_v.shape
        conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, padding=self.padding, dilation=self.dilation
        )
        conv.weight.copy_(self.weight)
        assert conv.bias is not None
        conv.bias.copy_(self.bias)
        return conv.to(self.weight_v)


class Invertible1x1Conv(nn.Module):
    """Channel mixing by an invertible matrix W (C, C); orthonormal at the start, det +1
    (Kingma & Dhariwal 2018, section 3.2).

    The inverse is computed from W at every call and never stored: 8 x 8 costs nothing, and a
    stored one goes stale with the next optimizer step.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 1, bias=False)
        self.set_matrix(random_rotation(channels))

    @property
    def matrix(self) -> Tensor:
        """W (C, C)."""
        return self.conv.weight[:, :, 0]

    @torch.no_grad()
    def set_matrix(self, W: Tensor) -> None:
        self.conv.weight.copy_(W[:, :, None])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T) -> (W x, log|det W|), the scalar counted once per time step.

        Computed in fp32 or better whatever autocast says: half precision would quantise the signal
        itself, and slogdet (not log of det) neither overflows nor needs det > 0.
        """
        W = at_least_fp32(self.matrix)
        log_det = torch.linalg.slogdet(W).logabsdet
        return F.conv1d(at_least_fp32(x), W[:, :, None]), log_det

    def inverse(self, x: Tensor) -> Tensor:
        """(B, C, T) -> W^-1 x; not finite where W is singular."""
        W_inv = torch.linalg.inv_ex(at_least_fp32(self.matrix)).inverse  # no wait for a GPU
        return F.conv1d(x, W_inv[:, :, None].to(x.dtype))


def at_least_fp32(x: Tensor) -> Tensor:
    """Half precisions become fp32; fp32 and fp64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def random_rotation(channels: int, generator: torch.Generator | None = None) -> Tensor:
    """An orthonormal (C, C) matrix of determinant +1."""
    Q, _ = torch.linalg.qr(torch.randn(channels, channels, generator=generator))
    if torch.linalg.det(Q) < 0:
        Q[:, 0] = -Q[:, 0]
    return Q
