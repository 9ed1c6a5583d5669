"""Beside a checkout of NVIDIA/waveglow: the same weights and inputs give the same numbers.

    git clone https://github.com/NVIDIA/waveglow
    WG_PEER_WAVEGLOW=$PWD/waveglow python -m pytest tests/peer -s

Its own glow.py is imported from there and pickles a model as its train.py does; ``wg.load`` reads
that file. Its inference asks CUDA for noise, so the test hands it wg's on the CPU.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import wg
from wg.flow.waveglow import nll
from wg.vocode.noise import Noise
from wg.vocode.run import vocode

PEER = os.environ.get("WG_PEER_WAVEGLOW")
pytestmark = pytest.mark.skipif(
    not PEER, reason="set WG_PEER_WAVEGLOW to a checkout of NVIDIA/waveglow"
)

SIZES = {
    "tiny": ({"n_layers": 3, "n_channels": 16, "kernel_size": 3}, 6),
    "paper": ({"n_layers": 8, "n_channels": 256, "kernel_size": 3}, 12),
}


@pytest.fixture
def glow(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    assert PEER is not None
    spec = importlib.util.spec_from_file_location("glow", Path(PEER) / "glow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "glow", module)
    spec.loader.exec_module(module)
    return module


def _peer(glow: ModuleType, size: str) -> Any:
    wn, n_flows = SIZES[size]
    torch.manual_seed(0)
    model = glow.WaveGlow(80, n_flows, 8, 4, 2, wn)
    for k in range(n_flows):
        torch.nn.init.normal_(model.WN[k].end.weight, std=0.16 / wn["n_channels"] ** 0.5)
        torch.nn.init.normal_(model.WN[k].end.bias, std=0.02)
    return model


def _feed(monkeypatch: pytest.MonkeyPatch, z: torch.Tensor, n_left: int) -> None:
    """Let the peer's ``torch.cuda.FloatTensor(...).normal_()`` return slices of ``z``."""
    parts = [z[:, -n_left:], *z[:, :-n_left].split(2, dim=1)[::-1]]

    class Noisy:
        def __init__(self, *shape: int) -> None:
            self.shape = shape

        def normal_(self) -> torch.Tensor:
            part = parts.pop(0)
            assert part.shape == self.shape
            return part

    monkeypatch.setattr(torch.cuda, "FloatTensor", Noisy)


@pytest.mark.parametrize("size", SIZES)
def test_z_loss_gradients_and_audio(
    glow: ModuleType, size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = _peer(glow, size)
    torch.save({"model": peer, "iteration": 1000, "learning_rate": 1e-4}, tmp_path / "peer.pt")
    monkeypatch.delitem(sys.modules, "glow")
    ours = wg.load(tmp_path / "peer.pt")
    assert ours.meta["iteration"] == 1000

    audio = 0.1 * torch.randn(2, 16000)
    mel = wg.mel(audio)
    output = peer((mel, audio))
    loss = glow.WaveGlowLoss(1.0)(output)
    loss.backward()
    told = ours(mel, audio)
    mine = nll(told, 1.0)
    mine.backward()
    theirs = dict(peer.named_parameters())
    pairs = [(theirs[name].grad, p.grad) for name, p in ours.named_parameters()]
    assert len(pairs) == len(theirs)
    error = sum(float((a - b).square().sum()) for a, b in pairs)
    norm = sum(float(a.square().sum()) for a, _ in pairs)

    z = torch.randn(2, 8, mel.shape[2] * 32)
    _feed(monkeypatch, z, peer.n_remaining_channels)
    with torch.no_grad():
        said, heard = peer.infer(mel, 0.7), ours.infer(mel, 0.7, z=z)
    figures = {
        "z": float((output[0] - told.z).detach().abs().max()),
        "loss": abs(float(loss) - float(mine)),
        "gradients": (error / norm) ** 0.5,
        "audio": float((said - heard).abs().max() / said.abs().max()),
    }
    print(f"\n{size}: " + ", ".join(f"{k} {v:.2g}" for k, v in figures.items()))
    assert figures["z"] < 1e-5
    assert figures["loss"] < 1e-6
    assert figures["gradients"] < 1e-6
    assert figures["audio"] < 1e-5


def test_vocode_on_a_converted_checkpoint(
    glow: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that ``wg vocode`` writes against the audio of the original code."""
    from wg.checkpoint.convert import convert

    peer = _peer(glow, "tiny")
    torch.save({"model": peer}, tmp_path / "peer.pt")
    mel = wg.mel(0.1 * torch.randn(22050))
    torch.save(mel, tmp_path / "utterance.pt")
    convert(tmp_path / "peer.pt", tmp_path / "model")
    vocode(
        tmp_path / "model", [tmp_path / "utterance.pt"], tmp_path / "out",
        sigma=0.05, device="cpu", say=lambda _: None,
    )  # fmt: skip
    ours, rate = soundfile.read(tmp_path / "out" / "utterance.wav", dtype="int16")
    assert rate == 22050

    z = Noise(0, "utterance.wav", 8)(0, mel.shape[1] * 32)[None]
    _feed(monkeypatch, z, peer.n_remaining_channels)
    with torch.no_grad():
        audio = peer.infer(mel[None], 0.05)[0].numpy() * 32768.0
    assert np.abs(audio).max() < 32767  # beyond it the original wraps
    difference = ours - audio
    print(f"\nfiles: at most {np.abs(difference).max():.3f} of a 16-bit step from the original")
    assert np.abs(difference).max() < 0.52  # rounded where the original cuts off
