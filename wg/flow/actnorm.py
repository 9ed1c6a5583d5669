"""Activation normalisation: a scale and an offset for every channel (Kingma & Dhariwal 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ActNorm(nn.Module):
    """y = (x + offset) exp(log_scale) on (B, C, T'); the identity until :meth:`fit`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(channels, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1))
        self.fitting = False

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Zero mean and unit variance for each channel of ``x``, (B, C, T')."""
        mean = x.mean((0, 2))[:, None]
        self.offset.copy_(-mean)
        # A channel of digital silence keeps a finite scale.
        self.log_scale.copy_(-0.5 * (x - mean).square().mean((0, 2)).clamp_min(1e-8).log()[:, None])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T') -> (y, log|det| counted once per time step)."""
        if self.fitting:
            self.fit(x)
        return (x + self.offset) * self.log_scale.exp(), self.log_scale.sum()

    def inverse(self, y: Tensor) -> Tensor:
        """(B, C, T') -> x."""
        return y * (-self.log_scale).exp() - self.offset
