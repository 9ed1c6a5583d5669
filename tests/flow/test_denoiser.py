"""NVIDIA's denoiser. Beside their code (a checkout of DeepLearningExamples, torch 2.13, random
model, noise of 0.1): equal to 1.8e-7 at strengths 0, 0.1 and 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests_helpers import trained_looking

import wg
from wg.flow import FlowConfig
from wg.flow.denoiser import Denoiser, silence_of

CONFIG = FlowConfig(n_mels=6, n_flows=4, n_layers=3, n_channels=12)


def _reference(audio: np.ndarray, bias: np.ndarray, strength: float) -> np.ndarray:
    """The algorithm again, in numpy and fp64: frames, subtraction, weighted overlap-add."""
    n_fft, hop = 1024, 256
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)

    def frames(x: np.ndarray) -> np.ndarray:
        x = np.pad(x, n_fft // 2, mode="reflect")
        return np.stack([x[i : i + n_fft] for i in range(0, len(x) - n_fft + 1, hop)])

    first = np.abs(np.fft.rfft(frames(bias)[0] * window))
    spectra = np.fft.rfft(frames(audio) * window)
    magnitude = np.maximum(np.abs(spectra) - strength * first, 0)
    pieces = np.fft.irfft(magnitude * np.exp(1j * np.angle(spectra))) * window
    out = np.zeros((len(pieces) - 1) * hop + n_fft)
    weight = np.zeros_like(out)
    for i, piece in enumerate(pieces):
        out[i * hop : i * hop + n_fft] += piece
        weight[i * hop : i * hop + n_fft] += window**2
    middle = slice(n_fft // 2, len(out) - n_fft // 2)
    return out[middle] / weight[middle]


@pytest.mark.parametrize("strength", [0.0, 0.1, 1.0])
def test_it_is_the_published_algorithm(strength: float) -> None:
    torch.manual_seed(1)
    audio, bias = 0.1 * torch.randn(1, 256 * 30), 0.05 * torch.randn(1, 256 * 88)
    ours = Denoiser(bias, strength)(audio)[0].numpy()
    wanted = _reference(audio[0].double().numpy(), bias[0].double().numpy(), strength)
    assert np.abs(ours - wanted).max() < 5e-7
    if strength:
        assert np.abs(ours - audio[0].numpy()).max() > 1e-3


@pytest.mark.parametrize("n", [1, 400, 512, 513, 1000, 4097])
def test_strength_zero_changes_nothing_at_any_length(n: int) -> None:
    torch.manual_seed(n)
    audio = 0.3 * torch.randn(2, n)
    out = Denoiser(torch.randn(1, 2048), 0.0)(audio)
    assert out.shape == audio.shape
    assert float((out - audio).abs().max()) < 1e-6


@pytest.mark.parametrize("piece", [1, 97, 256, 1024, 3000])
def test_pieces_equal_the_whole(piece: int) -> None:
    torch.manual_seed(2)
    audio, bias = 0.1 * torch.randn(1, 5000), 0.05 * torch.randn(1, 2048)
    whole = Denoiser(bias, 0.5)(audio)
    stream = Denoiser(bias, 0.5)
    parts = [
        stream.push(audio[:, i : i + piece], last=i + piece >= 5000) for i in range(0, 5000, piece)
    ]
    assert float((torch.cat(parts, dim=1) - whole).abs().max()) < 3e-7


def test_the_bias_is_the_models_answer_to_nothing() -> None:
    model = trained_looking(CONFIG).eval()
    with torch.no_grad():
        wanted = model.infer(torch.zeros(1, 6, 88), 0.0, z=torch.zeros(model.z_shape(1, 88)))
    bias = silence_of(model)
    assert float((bias - wanted).abs().max()) < 1e-6
    # Subtracting all of a stationary sound from itself leaves little of its energy.
    left = wg.denoise(model, bias, 1.0).square().mean() / bias.square().mean()
    assert 0 <= float(left) < 0.2
    assert 0.7 < float(wg.denoise(model, bias, 0.1).square().mean() / bias.square().mean()) < 0.95
