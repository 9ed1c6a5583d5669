"""Helpers that tests of several rooms share (on the path through pyproject's pythonpath)."""

from __future__ import annotations

import torch

from wg.flow import FlowConfig, WaveGlow


def trained_looking(config: FlowConfig, seed: int = 0) -> WaveGlow:
    """Random couplings: as built, they are identities and would hide mistakes."""
    torch.manual_seed(seed)
    model = WaveGlow(config)
    for wn in model.WN:
        torch.nn.init.normal_(wn.end.weight, std=0.05)
        torch.nn.init.normal_(wn.end.bias, std=0.1)
    return model
