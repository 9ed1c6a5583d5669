"""Models from disk and to disk: wg's own folders, and every checkpoint that wg can read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wg.checkpoint.folder import FORMAT, read_weights, save_weights
from wg.checkpoint.read import read_checkpoint
from wg.flow.config import FlowConfig
from wg.flow.layers import WeightNormConv1d
from wg.flow.waveglow import WaveGlow

__all__ = ["FORMAT", "build_model", "load_model", "read_weights", "save_weights"]


def load_model(path: Path, device: str | torch.device = "cpu") -> tuple[WaveGlow, dict[str, Any]]:
    """The model, ready for inference, and its meta.

    path: whatever :func:`~wg.checkpoint.read.read_checkpoint` reads. Weight norm stays in place
    where the checkpoint has it, and folded where it is folded. meta has at least sampling_rate
    (Hz), mel (the settings of its mel spectrogram), sigma, recipe and run.
    """
    checkpoint = read_checkpoint(path)
    return build_model(checkpoint.config, checkpoint.weights).to(device).eval(), checkpoint.meta


def build_model(config: FlowConfig, weights: Mapping[str, Tensor]) -> WaveGlow:
    """A model of this size with these weights, whose layers have a weight norm or, where the
    weights are folded, none."""
    model = WaveGlow(config)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, WeightNormConv1d) and f"{name}.weight" in weights:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.folded())
    model.load_state_dict(weights)
    return model
