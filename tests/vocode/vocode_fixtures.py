"""A tiny model folder, recordings to speak again, and a way to hear what was written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests_helpers import trained_looking

from wg.audio.mel import MelConfig
from wg.checkpoint.weights import save_weights
from wg.flow import FlowConfig

CONFIG = FlowConfig(
    n_mels=20, n_flows=5, n_early_every=2, n_layers=2, n_channels=8, upsample_kernel=512
)
MEL = MelConfig(sampling_rate=16000, n_mels=20)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "final"
    meta = {"sampling_rate": 16000, "mel": asdict(MEL), "sigma": 0.8, "run": "r", "recipe": "n"}
    save_weights(folder, trained_looking(CONFIG).state_dict(), CONFIG, meta)
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, n in (("a.wav", 4000), ("b.flac", 50001), ("sub/a.ogg", 3001), ("tiny.wav", 7)):
        soundfile.write(folder / name, 0.1 * rng.standard_normal(n), 16000)
    return folder


def heard(path: Path) -> np.ndarray:
    """int16 (T,) of a file, which must be 16-bit PCM at 16 kHz."""
    data, rate = soundfile.read(path, dtype="int16")
    assert rate == 16000
    assert soundfile.info(path).subtype == "PCM_16"
    return data
