"""Fixtures that several rooms share: a tiny corpus, a tiny configuration, the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

Stopped = Callable[[int], AbstractContextManager[None]]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _own_world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test session's own, one thread, no W&B traffic."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("WG_CACHE_DIR", str(base / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of 1.5 s of coloured noise and a tone at 16 kHz: speech-like in level only."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    t = np.arange(24000) / 16000
    for i in range(6):
        noise = np.convolve(rng.standard_normal(24000), np.ones(4) / 4, mode="same")
        wave = 0.03 * noise + 0.05 * np.sin(2 * np.pi * (150 + 40 * i) * t)
        soundfile.write(folder / f"clip{i}.wav", wave, 16000, subtype="PCM_16")
    return folder


@pytest.fixture
def tiny_config(corpus_dir: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A resolved configuration of seconds, with changes: ``tiny_config(seed=1)``."""

    def make(**changes: Any) -> dict[str, Any]:
        config: dict[str, Any] = {
            "arm": None,
            "out": str(tmp_path / "runs"),
            "seed": 0,
            "recipe": "nvidia",
            "strategy": {},
            "segment_length": 4096,
            "batch_size": 2,
            "sigma": 1.0,
            "threads": 1,
            "device": "cpu",
            "log_every": 2,
            "budget": {"audio_seconds": 4.0, "train_seconds": None},
            "snapshots": {"every": 1.5, "keep": "last"},
            "evaluation": {"sigma": 1.0, "grid_seconds": 1.0, "samples": 1},
            "model": {
                "n_flows": 4,
                "n_early_every": 2,
                "n_layers": 2,
                "n_channels": 4,
                "upsample_kernel": 512,
                "n_mels": 16,
            },
            "data": {
                "name": "noise",
                "kind": "folder",
                "path": str(corpus_dir),
                "sampling_rate": 16000,
                "held_out": 2,
                "mel": {"n_mels": 16, "f_max": 8000.0},
            },
            "logger": {"name": "none"},
            "target": {},
        }
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(config.get(key), dict) and key != "strategy":
                config[key] = {**config[key], **value}
            else:
                config[key] = value
        return config

    return make


@pytest.fixture
def stopped() -> Stopped:
    """``with stopped(4):`` a run is asked to stop, as by SIGTERM, behind that step."""
    from wg.train.recorder import Recorder  # and Lightning, which most tests do without

    @contextmanager
    def stopping(step: int) -> Iterator[None]:
        passed = Recorder._passed

        def ask(self: Recorder) -> int:
            if self.job.data.step == step:
                self._signal = signal.SIGTERM
            return passed(self)

        with pytest.MonkeyPatch.context() as m:
            m.setattr(Recorder, "_passed", ask)
            yield

    return stopping


@pytest.fixture
def wg(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user does: ``wg("train", ...)`` in an empty folder."""

    def run(*arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **kwargs.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "wg", *arguments],
            cwd=kwargs.pop("cwd", tmp_path),
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            **kwargs,
        )

    return run
