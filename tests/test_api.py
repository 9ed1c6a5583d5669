"""``import wg`` for other programs: light, typed, and the same numbers as the commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests_helpers import trained_looking

import wg
from wg.audio.mel import MelConfig, MelSpectrogram
from wg.checkpoint.weights import save_weights
from wg.flow.waveglow import nll

CONFIG = wg.FlowConfig(n_flows=3, n_early_every=2, n_layers=2, n_channels=8)
HEAVY = ["hydra", "omegaconf", "wandb", "lightning", "librosa", "scipy", "matplotlib", "onnx"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    meta = {"sampling_rate": 22050, "mel": vars(MelConfig()), "sigma": 1.0}
    save_weights(tmp_path / "model", trained_looking(CONFIG).state_dict(), CONFIG, meta)
    return tmp_path / "model"


def _modules(code: str) -> set[str]:
    """What is imported by ``code``, in a process of its own."""
    told = code + "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=120
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_it_brings_nothing() -> None:
    assert not _modules("import wg; wg.__version__") & {*HEAVY, "torch", "numpy"}


def test_a_model_is_loaded_and_speaks_without_the_trainer(folder: Path) -> None:
    code = f"""
import torch, wg
model = wg.load({str(folder)!r})
with torch.inference_mode():
    audio = model.infer(torch.zeros(1, 80, 3) - 5, sigma=0.6)
    wg.denoise(model, audio, 0.1)
assert audio.shape == (1, 768)
"""
    assert not _modules(code) & set(HEAVY)


def test_it_needs_neither_hydra_nor_wandb(folder: Path) -> None:
    """They are not only not imported: they need not be there."""
    code = f"""
import sys
for name in ("hydra", "omegaconf", "wandb", "lightning"):
    sys.modules[name] = None  # importing it fails from here on
import torch, wg
mel = wg.mel(torch.randn(4000) * 0.1)
assert wg.load({str(folder)!r})(mel[None], torch.zeros(1, 4000)).z.shape == (1, 8, 500)
"""
    _modules(code)


def test_both_directions(folder: Path) -> None:
    model = wg.load(folder)
    assert isinstance(model, wg.WaveGlow)
    assert model.meta["sampling_rate"] == 22050
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(2, 8000)
    mel = wg.mel(audio, **model.meta["mel"])
    with torch.inference_mode():
        output = model(mel, audio)
        # The noise behind the audio, given back, is the audio; the mel's last frame is half used.
        frames = mel.shape[2]
        z = torch.cat([output.z, torch.zeros(2, 8, frames * 32 - output.z.shape[2])], dim=2)
        again = model.infer(mel, sigma=1.0, z=z)[:, :7000]
        folded = model.remove_weight_norm()(mel, audio)
    assert float((again - audio[:, :7000]).abs().max()) < 1e-4
    assert float((folded.z - output.z).abs().max()) < 1e-5
    assert np.isfinite(float(nll(output)))


def test_mels_of_tensors_and_arrays() -> None:
    audio = np.random.default_rng(0).standard_normal(5000) * 0.1
    config = MelConfig(sampling_rate=16000, n_mels=40)
    wanted = MelSpectrogram(config)(torch.from_numpy(audio).float()[None])
    assert torch.equal(wg.mel(audio, 16000, n_mels=40), wanted[0])
    assert torch.equal(wg.mel(torch.from_numpy(audio)[None], 16000, n_mels=40), wanted)


@pytest.mark.parametrize(
    ("audio", "settings", "message"),
    [
        (np.zeros(100, np.int16), {}, "divide 16-bit samples by 32768"),
        (np.zeros((1, 1, 100)), {}, r"shape \(1, 1, 100\) must be"),
        (np.zeros(0), {}, "must be"),
        (np.zeros(100), {"n_mel": 80}, "did you mean 'n_mels'"),
        (np.zeros(100), {"f_max": 20000.0}, "half the sampling rate"),
    ],
)
def test_mistakes_are_told(audio: np.ndarray, settings: dict, message: str) -> None:
    with pytest.raises(wg.UserError, match=message):
        wg.mel(audio, **settings)


def test_what_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'loads'"):
        wg.loads  # noqa: B018
    with pytest.raises(wg.UserError, match="nowhere"):
        wg.load("nowhere")
    assert {"load", "mel", "denoise", "WaveGlow"} <= set(dir(wg))
