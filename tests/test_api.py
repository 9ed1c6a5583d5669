"""``import wg`` for other programs: light, typed, and the same numbers as the commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
        ("abc", {}, "a str that is no array of numbers"),
        (None, {}, "a NoneType that is no array"),
        ([[0.1], [0.1, 0.2]], {}, "a list that is no array"),
        ([1, 2], {}, "divide 16-bit"),
        (np.zeros(100, complex), {}, "complex128 must be real numbers"),
        (np.zeros(100, bool), {}, "bool must be real numbers"),
        (np.full(100, -32768.0), {}, "reaches 32768 where full scale is 1"),
        (torch.full((100,), torch.nan), {}, "reaches nan"),
        (torch.tensor(0.5), {}, r"shape \(\) must be"),
        (np.zeros(100), {"n_mel": 80}, "did you mean 'n_mels'"),
        (np.zeros(100), {"f_max": 20000.0}, "half the sampling rate"),
    ],
)
def test_mistakes_are_told(audio: Any, settings: dict, message: str) -> None:
    with pytest.raises(wg.UserError, match=message):
        wg.mel(audio, **settings)


def test_mels_of_arrays_that_lie_otherwise() -> None:
    audio = np.random.default_rng(0).standard_normal(3000) * 0.1
    wanted = wg.mel(audio)
    assert torch.equal(wg.mel(audio[::-1][::-1]), wanted)
    assert torch.equal(wg.mel(audio[::-1].copy()[::-1]), wanted)
    assert torch.equal(wg.mel(audio.astype(">f8")), wanted)
    assert torch.equal(wg.mel(audio.astype(np.longdouble)), wanted)
    assert torch.equal(wg.mel(audio.tolist()), wanted)


@pytest.mark.parametrize(
    ("audio", "strength", "message"),
    [
        (np.zeros(2000), 0.1, "a ndarray and must be a torch tensor"),
        (torch.zeros(1, 1, 2000), 0.1, r"shape \(1, 1, 2000\) must be"),
        (torch.tensor(0.5), 0.1, r"shape \(\) must be"),
        (torch.zeros(2000, dtype=torch.int16), 0.1, "divide 16-bit"),
        (torch.zeros(2000), float("nan"), "strength=nan must be a finite number"),
        (torch.zeros(2000), -0.1, "strength=-0.1 must be"),
        (torch.zeros(2000), "much", "strength='much' must be"),
    ],
)
def test_mistakes_with_the_denoiser_are_told(audio: Any, strength: Any, message: str) -> None:
    with pytest.raises(wg.UserError, match=message):
        wg.denoise(trained_looking(CONFIG), audio, strength)
    with pytest.raises(wg.UserError, match="a Tensor and must be one that"):
        wg.denoise(torch.zeros(2000), trained_looking(CONFIG))  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps:7", ""])
def test_a_device_that_is_not_there(folder: Path, device: str) -> None:
    with pytest.raises(wg.UserError, match=f"device={device} is unknown or not there: .* cpu"):
        wg.load(folder, device)


def test_what_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'loads'"):
        wg.loads  # noqa: B018
    with pytest.raises(wg.UserError, match="nowhere"):
        wg.load("nowhere")
    assert {"load", "mel", "denoise", "WaveGlow"} <= set(dir(wg))
