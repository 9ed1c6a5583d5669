"""One row a strategy: what its contract tests train it with. A new strategy adds one row."""

from __future__ import annotations

from typing import Any

# name -> hyperparameters that fit the tiny configuration (2 segments of 4,096 samples, 4 flows).
ROWS: dict[str, dict[str, Any]] = {
    "actnorm": {},
    "accumulate": {"segments": 1},
    "adamw": {"lr": 2e-3},
    "apex": {},
    "batch_ramp": {"batch_sizes": [1, 2]},
    "bf16": {},
    "clip": {"max_norm": 0.5},
    "conditional_init": {"seconds": 3.0},
    "curriculum": {"segment_lengths": [2048, 4096]},
    "ddp": {"ranks": 1},
    "dequantize": {"lsb": 2.0},
    "ema": {"decay": 0.9},
    "fp16": {},
    "fused_optimizer": {},
    "frame_rate_conditioning": {},
    "interpolated_mel": {},
    "lpc_whiten": {"order": 24},
    "loudness_curriculum": {"start": 0.3, "until": 0.6},
    "lr_schedule": {"warmup": 0.2},
    "micro_batch": {},
    "schedule_free": {"warmup_steps": 2},
    "soap": {"every": 2},
    "swa": {"start": 0.4},
    "mel_whiten": {},
    "muon": {"steps": 4},
    "tf32": {},
    "warm_start": {"n_flows": [2, 4], "until": [0.5]},
    "whiten_init": {"seconds": 3.0},
}

# Rows that no CPU can train: what the refusal must say, wherever the tests run.
REFUSED: dict[str, str] = {"apex": "strategy 'apex' needs"}
TRAINED = [name for name in ROWS if name not in REFUSED]
