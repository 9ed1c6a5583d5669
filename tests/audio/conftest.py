from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own cache."""
    monkeypatch.setenv("WG_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def recordings(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of noise recordings of the given lengths (samples)."""

    def make(lengths: list[int], rate: int = 16000, name: str = "rec") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for k, n in enumerate(lengths):
            noise = np.random.default_rng(k).uniform(-0.5, 0.5, n)
            soundfile.write(folder / f"{k:03d}.wav", noise, rate, subtype="PCM_16")
        return folder

    return make
