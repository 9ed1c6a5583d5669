"""One row a strategy: what its contract tests train it with. A new strategy adds one row."""

from __future__ import annotations

from typing import Any

# name -> hyperparameters that fit the tiny configuration (2 segments of 4,096 samples, 4 flows).
ROWS: dict[str, dict[str, Any]] = {
    "adamw": {"lr": 2e-3},
    "batch_ramp": {"batch_sizes": [1, 2]},
    "bf16": {},
    "clip": {"max_norm": 0.5},
    "curriculum": {"segment_lengths": [2048, 4096]},
    "ddp": {"ranks": 1},
    "dequantize": {"lsb": 2.0},
    "ema": {"decay": 0.9},
    "fp16": {},
    "fused_optimizer": {},
    "lr_schedule": {"warmup": 0.2},
    "tf32": {},
    "warm_start": {"n_flows": [2, 4], "until": [0.5]},
    "whiten_init": {"seconds": 3.0},
}
