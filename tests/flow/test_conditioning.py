"""The mel's ways to the couplings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wg.errors import UserError
from wg.flow import FlowConfig
from wg.flow.conditioning import FrameEncoder, Interpolation, mel_path

CONFIG = FlowConfig(n_mels=5, n_flows=2, n_layers=2, n_channels=4, conditioning="interpolated")


def test_interpolation_meets_the_frames_at_their_centres() -> None:
    """Between the centres of frames the line through them, after the last frame its value."""
    path = Interpolation(CONFIG)
    mel = torch.arange(4.0).expand(1, 5, 4)
    context = path.context(mel, 4 * 256)
    got = path.project(lambda x: x, context)
    centres = (8 * torch.arange(128) + 3.5) / 256
    assert torch.allclose(got[0, 0], centres.clamp_max(3.0), atol=1e-6)


def test_projection_at_frames_is_that_at_groups() -> None:
    path = Interpolation(CONFIG)
    path.fit(torch.randn(5), torch.rand(5) + 0.5)
    layer = torch.nn.Conv1d(5, 12, 1)
    mel = torch.randn(2, 5, 9)
    at_frames = path.project(layer, path.context(mel, 8 * 256))
    at_groups = layer(path.windowed(mel))
    assert torch.allclose(at_frames, at_groups, atol=1e-5)


@pytest.mark.parametrize("conditioning", ["upsampled", "interpolated", "frame_rate"])
def test_frames_reach_as_far_as_they_say(conditioning: str) -> None:
    path = mel_path(replace(CONFIG, conditioning=conditioning))  # type: ignore[arg-type]
    mel = torch.randn(1, 5, 20, requires_grad=True)
    out = path.project(lambda x: x, path.context(mel, 20 * 256))
    (seen,) = torch.autograd.grad(out[:, :, 10 * 32 : 11 * 32].sum(), mel)
    frames = torch.nonzero(seen.abs().sum((0, 1)))[:, 0].tolist()
    assert (frames[0], frames[-1]) == (10 - path.before, 10 + path.after)


def test_statistics_normalise_and_a_constant_band_keeps_its_scale() -> None:
    path = FrameEncoder(CONFIG)
    mel = torch.cat([3 + 2 * torch.randn(1, 4, 5000), torch.full((1, 1, 5000), -11.5)], 1)
    path.fit(mel[0].mean(1), mel[0].std(1))
    normalised = Interpolation.features(path, mel)
    assert torch.allclose(normalised[0, :4].std(1), torch.ones(4), atol=0.01)
    assert torch.equal(normalised[0, 4], torch.zeros(5000))


def test_a_mel_that_is_too_short_is_told() -> None:
    with pytest.raises(UserError, match="3 frames covers 768 samples and the audio has 1024"):
        Interpolation(CONFIG).context(torch.zeros(1, 5, 3), 1024)
