"""Scales that follow the mel from the first step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.flow import FlowConfig, WaveGlow
from wg.flow.conditional import (
    fit_log_scale,
    frame_powers,
    principal_whitening,
    start_at_scale,
)
from wg.flow.whitening import group_covariance

MEL = MelConfig(sampling_rate=16000)
CONFIG = FlowConfig(n_flows=4, n_layers=2, n_channels=16)


def test_whitening_is_along_the_principal_axes() -> None:
    torch.manual_seed(0)
    mixed = torch.randn(20000, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64)
    covariance = mixed.T @ mixed / len(mixed)
    W = principal_whitening(covariance)
    assert torch.allclose(W @ covariance @ W.T, torch.eye(4, dtype=torch.float64), atol=1e-9)
    gram = W @ W.T
    assert torch.allclose(gram, gram.diagonal().diag(), atol=1e-9 * float(gram.max()))
    assert (gram.diagonal().diff() > 0).all()  # the largest variance is scaled down most


def test_a_log_linear_scale_is_found() -> None:
    torch.manual_seed(0)
    mels = 3 + 2 * torch.randn(6000, 5, dtype=torch.float64)
    slope = torch.randn(5, 3, dtype=torch.float64) / 5
    log_s = 1.5 + (mels - 3) @ slope
    # Mean squares of 32 draws of deviation exp(-log_s).
    powers = (-2 * log_s).exp() * torch.randn(6000, 3, 32, dtype=torch.float64).square().mean(2)
    found = fit_log_scale(mels, powers)
    got = found.middle + (mels - found.mean) / found.std @ found.slope
    assert (got - log_s).abs().max() < 0.1


def swelling(T: int) -> Tensor:
    """Coloured noise (1, T) whose level rises and falls by 40 dB."""
    noise = torch.randn(T, generator=torch.Generator().manual_seed(0))
    level = 10 ** (-2 - torch.sin(torch.arange(T) * (2 * torch.pi / 16000)))
    return (level * (noise + 0.9 * noise.roll(1)))[None]


@pytest.mark.parametrize("conditioning", ["upsampled", "interpolated", "frame_rate"])
@pytest.mark.parametrize("swap", [False, True])
def test_the_model_begins_with_unit_variance_at_any_level(conditioning: str, swap: bool) -> None:
    """Loud and soft stretches reach z with the same variance, at all channels; forward and inverse
    still agree."""
    torch.manual_seed(0)
    model = WaveGlow(replace(CONFIG, conditioning=conditioning, swap_odd_halves=swap))  # type: ignore[arg-type]
    audio = swelling(256 * 250)
    mel = MelSpectrogram(MEL)(audio)
    if conditioning != "upsampled":
        model.upsample.fit(mel[0].mean(1), mel[0].std(1))  # type: ignore[operator]
    whitening = principal_whitening(group_covariance([audio[0]], 8, 10**9))
    scale = fit_log_scale(*frame_powers([(mel[0], audio[0])], whitening, 256, 10**9))
    with torch.no_grad():
        before = model(mel, audio).z[0]
    start_at_scale(model, whitening, scale)
    with torch.no_grad():
        z = model(mel, audio).z[0]
    levels = z.view(8, 250, 32).square().mean(2).sqrt()[:, 2:-2]
    raw = before.view(8, 250, 32).square().mean(2).sqrt()[:, 2:-2]
    assert float(raw.max() / raw.min()) > 50
    # One frame's estimate from 32 groups scatters by an eighth.
    assert 0.9 < float(levels.square().mean()) < 1.1
    assert float(levels.log().std()) < 0.3
    with torch.no_grad():
        back = model.infer(mel[:, :, :250], z=z[None])
    assert (back[:, 4096:-4096] - audio[:, 4096:-4096]).abs().max() < 1e-4


def test_early_outputs_between_the_first_flows_leave_one_half() -> None:
    model = WaveGlow(replace(CONFIG, n_early_every=1, n_early_size=2, n_flows=3))
    audio = swelling(256 * 100)
    mel = MelSpectrogram(MEL)(audio)
    whitening = principal_whitening(group_covariance([audio[0]], 8, 10**9))
    scale = fit_log_scale(*frame_powers([(mel[0], audio[0])], whitening, 256, 10**9))
    start_at_scale(model, whitening, scale)
    assert torch.count_nonzero(model.WN[0].end.weight) > 0
    assert torch.count_nonzero(model.WN[1].end.weight) == 0
