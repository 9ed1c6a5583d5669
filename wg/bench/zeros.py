"""Noise in place of zeros, so that every gradient of a new network can be compared."""

from __future__ import annotations

import torch
from torch import nn

# Standard deviation of what replaces zeros, times the root of the fan-in. Couplings then neither
# are identities, whose inner gradients vanish, nor blow up over 12 flows.
SPREAD = 0.1


@torch.no_grad()
def fill_zeros(model: nn.Module) -> None:
    """Small noise in place of parameters that start at zero, the same for the same names: a new
    coupling is an identity and passes no gradient on, so that a wrong one could not be told."""
    for i, (_, p) in enumerate(sorted(model.named_parameters())):
        if not p.any():
            fan_in = max(p[0].numel() if p.ndim > 1 else p.numel(), 1)
            noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
            p.copy_(noise * SPREAD / fan_in**0.5)
