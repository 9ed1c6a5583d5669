"""Sweep directories with known curves, written as runs write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from wg.measure.clock import SECTIONS
from wg.measure.record import Record

RATE = 16000
TARGET = {"name": "t1", "conditions": {"log_mel_l1": 1.0}, "how": "set by hand for a test"}
STRATEGIES = {"nvidia": {}, "fast": {"bf16": "system"}, "slow": {"grow": "model"}}


def clock(train: float) -> dict[str, dict[str, float]]:
    """CPU seconds of training; wall seconds are twice that, and scoring took 7 s."""
    totals = {s: {"wall": 0.0, "cpu": 0.0} for s in SECTIONS}
    totals["train"] = {"wall": 2 * train, "cpu": train}
    totals["eval"] = {"wall": 7.0, "cpu": 7.0}
    return totals


def metrics(log_mel: float | None) -> dict[str, float | None]:
    known = log_mel if log_mel is not None else 1.0
    return {
        "nats_per_sample": known - 4,
        "log_mel_l1": log_mel,
        "mr_stft": 1 + known,
        "pesq_wb": 3 - known,
        "estoi": 1 - known / 5,
        "level_db": -known,
    }


def write_one(
    sweep: Path,
    arm: str,
    seed: int,
    curve: Sequence[tuple[float, float | None]],
    *,
    status: str = "finished",
    reason: str = "",
    donor: float | None = None,
    target: Mapping[str, Any] | None = TARGET,
    start: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    samples: bool = True,
    folder: str | None = None,
    strategies: Mapping[str, Mapping[str, Any]] | None = None,
    cost: Mapping[str, Any] | None = None,
) -> Path:
    """A run with grid scores at (CPU seconds, log_mel_l1), 10 audio seconds apart.

    strategies: names (all of kind algorithm) with their settings, instead of the arm's own.
    cost: fields of snapshots; numbers are of one step of the grid, and add up.
    """
    run_dir = sweep / (folder or f"{arm}-s{seed}-0000000{seed}")
    run_dir.mkdir(parents=True)
    kinds = (
        STRATEGIES.get(arm, {}) if strategies is None else dict.fromkeys(strategies, "algorithm")
    )
    settings = {
        "recipe": "nvidia",
        "strategy": {s: dict((strategies or {}).get(s, {})) for s in kinds},
        "model": {"n_mels": 80, "n_flows": 3, "n_group": 8, "n_layers": 2, "n_channels": 8},
        "data": {"sampling_rate": RATE, "mel": {"f_max": 8000.0}},
        "budget": {"audio_seconds": 10.0 * (len(curve) - 1), "train_seconds": None},
        "snapshots": {"every": 10},
        "evaluation": {"sigma": 1.0, "grid_seconds": 12, "samples": 2},
        **(config or {}),
    }
    (run_dir / "config.yaml").write_text(yaml.safe_dump(settings))
    command = f"wg train recipe={arm} seed={seed} 'arm=<{arm}>'"
    identity = {"id": run_dir.name, "arm": arm, "seed": seed, "command": command, "target": target}
    (run_dir / "run.json").write_text(json.dumps(identity))
    record = Record(run_dir)
    facts = {
        "run": run_dir.name,
        "arm": arm,
        "recipe": arm,
        "seed": seed,
        "machine": {"system": "Linux", "python": "3.11.7", "cpu": "a CPU", "cores": 2},
        "versions": {"torch": "2.13.0"},
        "commit": "a" * 40,
        "threads": 1,
        "ranks": 1,
        "device": "cpu",
        "clock_kind": "cpu",
        "corpus": {
            "name": "demo",
            "digest": "d" * 64,
            "train_utterances": 54,
            "held_out_utterances": 15,
            "train_seconds": 301.565,
            "held_out_seconds": 66.199,
        },
        "strategies": kinds,
        "plan": {"precision": "bf16"} if arm == "fast" else {},
        "donor": None if donor is None else {"path": "runs/d/final", "train_seconds": donor},
        "parameters": 123456,
    }
    record.write("start", **{**facts, **(start or {})})
    for i, (seconds, _) in enumerate(curve):
        at = {"index": i, "step": 5 * i, "audio_seconds": 10.0 * i}
        spent = {k: i * v if isinstance(v, float) else v for k, v in (cost or {}).items()}
        record.write(
            "snapshot", **at, **spent, clock=clock(seconds), path="snapshots/x", sha256="s"
        )
    if status == "finished":
        record.write("trained", step=5 * len(curve), clock=clock(curve[-1][0]))
        for i, (_, value) in enumerate(curve):
            at = {"index": i, "step": 5 * i, "audio_seconds": 10.0 * i, "sha256": "s"}
            record.write("score", **at, set="grid", metrics=metrics(value), utterances={})
        value = curve[-1][1]
        each = {"one": metrics(value), "two/clip": metrics(value)}
        record.write("score", **at, set="held_out", metrics=metrics(value), utterances=each)
        if samples:
            write_samples(run_dir, record, seed)
    record.write("end", status=status, reason=reason, clock=clock(curve[-1][0]))
    return run_dir


def write_samples(folder: Path, record: Record, seed: int) -> None:
    (folder / "samples").mkdir()
    t = np.arange(RATE) / RATE
    audio: dict[str, dict[str, str]] = {}
    for name, pitch in (("one", 200), ("two/clip", 330)):
        audio[name] = {}
        for kind, shift in (("reference", 0), ("generated", 40 + 10 * seed)):
            file = f"samples/{name.replace('/', '_')}.{kind}.flac"
            wave = 0.3 * np.sin(2 * np.pi * (pitch + shift) * t * (1 + 0.2 * t))
            soundfile.write(folder / file, wave, RATE, subtype="PCM_16")
            audio[name][kind] = file
    record.write("samples", audio=audio, sampling_rate=RATE, sigma=1.0)


def falling(step: float) -> list[tuple[float, float | None]]:
    """Crosses log_mel_l1 = 1.0 half-way between the third and the fourth point."""
    return [(step * i, v) for i, v in enumerate([3.0, 2.0, 1.5, 0.5, 0.25])]


def reaching(time: float, last: float = 0.25) -> list[tuple[float, float | None]]:
    """Crosses log_mel_l1 = 1.0 at ``time`` CPU seconds, and ends at twice that with ``last``."""
    return [(0.0, 3.0), (0.8 * time, 1.2), (1.2 * time, 0.8), (2 * time, last)]


MISSING_IT: list[tuple[float, float | None]] = [
    (0, 3.0),
    (10, 2.0),
    (20, 1.8),
    (30, 1.7),
    (40, 1.6),
]

WriteRun = Callable[..., Path]
