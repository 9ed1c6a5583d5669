"""One row a strategy: what its contract tests train it with. A new strategy adds one row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from wg.strategies import all_strategies

DONOR = "the donor that fits the rest of the recipe"  # made where a recipe is trained

# name -> hyperparameters that fit the tiny configuration (2 segments of 4,096 samples, 4 flows).
ROWS: dict[str, dict[str, Any]] = {
    "actnorm": {},
    "accumulate": {"segments": 1},
    "adamw": {"lr": 2e-3},
    "apex": {},
    "batch_ramp": {"batch_sizes": [1, 2]},
    "bf16": {},
    "cached_mel": {},
    "channels_last": {},
    "clip": {"max_norm": 0.5},
    "compile": {},
    "composed_conditioning": {},
    "conditional_init": {"seconds": 3.0},
    "cuda_graph": {},
    "cudnn_benchmark": {},
    "curriculum": {"segment_lengths": [2048, 4096]},
    "ddp": {"ranks": 1},
    "dequantize": {"lsb": 2.0},
    "ema": {"decay": 0.9},
    "fp16": {},
    "fp8": {},
    "fused_optimizer": {},
    "fused_wn": {},
    "frame_rate_conditioning": {},
    "gpu_mel": {},
    "grow_flows": {"n_flows": [2, 4], "until": [0.5]},
    "grow_width": {"until": [0.5]},
    "interpolated_mel": {},
    "lpc_whiten": {"order": 24},
    "loudness_curriculum": {"start": 0.3, "until": 0.6},
    "lr_schedule": {"warmup": 0.2},
    "micro_batch": {},
    "recompute": {},
    "reversible": {},
    "schedule_free": {"warmup_steps": 2},
    "soap": {"every": 2},
    "squeeze": {"n_group": 16, "n_early_size": 4},
    "swa": {"start": 0.4},
    "mel_consistency": {"rounds": 2},
    "mel_whiten": {},
    "muon": {"steps": 4},
    "tf32": {},
    "warm_start": {"donor": DONOR, "donor_seconds": 0.0},
    "whiten_init": {"seconds": 3.0},
}

# What a strategy adds to the parameters and buffers of the published layout (+), and takes from
# it (-); flows and layers are stars. Checkpoints hold these names: they are for ever.
NAMES: dict[str, set[str]] = {
    "actnorm": {"+actnorm.*.offset", "+actnorm.*.log_scale"},
    "frame_rate_conditioning": {
        "-upsample.weight", "-upsample.bias", "+upsample.wide.weight", "+upsample.wide.bias",
        "+upsample.narrow.weight", "+upsample.narrow.bias", "+upsample.mean", "+upsample.std",
    },
    "interpolated_mel": {
        "-upsample.weight", "-upsample.bias", "+upsample.mean", "+upsample.std",
    },
    "lpc_whiten": {"+front.spectrum.energy", "+front.spectrum.envelope"},
    "mel_whiten": {"+front.spectrum.energy", "+front.spectrum.envelope"},
    "mel_consistency": {"+consistency.filters", "+consistency.window"},
}  # fmt: skip

# Rows that only a GPU can train, and what is said where there is none.
GPU_ONLY = {
    "apex": "strategy 'apex' needs",  # or NVIDIA's package, with its kernels
    "cuda_graph": "strategy 'cuda_graph' needs a GPU",
    "gpu_mel": "strategy 'gpu_mel' needs a GPU",
}
REFUSED = {
    name: sentence
    for name, sentence in GPU_ONLY.items()
    if not torch.cuda.is_available() or all_strategies()[name].missing()
}
TRAINED = [name for name in ROWS if name not in REFUSED]


def device_of(names: Iterable[str]) -> str:
    """Where the tests train a recipe: numbers are the same everywhere on a CPU."""
    return "cuda" if GPU_ONLY.keys() & set(names) else "cpu"
