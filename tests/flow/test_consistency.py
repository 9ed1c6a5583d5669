"""Generated audio fitted to its mel: recordings pass, noise is mended, pieces equal the whole."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests_helpers import trained_looking
from torch import Tensor

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.checkpoint.weights import load_model, save_weights
from wg.flow import FlowConfig
from wg.flow.consistency import MelConsistency
from wg.flow.fronted import inverse_stream
from wg.flow.stream import SideBySide
from wg.train.prepare import tell_mel

MEL = MelConfig(sampling_rate=16000)
CONFIG = FlowConfig(n_flows=3, n_early_every=2, n_layers=2, n_channels=8, front_order=40)


def fitter(rounds: int, mel: MelConfig = MEL) -> MelConsistency:
    consistency = MelConsistency(replace(CONFIG, consistency=rounds, front_n_fft=mel.n_fft))
    of = MelSpectrogram(mel)
    consistency.set_mel(of.filters, of.window)
    return consistency


def glide(frames: int, mel: MelConfig = MEL) -> tuple[Tensor, Tensor]:
    """(mel (1, M, F), audio (1, F * hop)): harmonics of a voice whose pitch falls."""
    t = torch.arange(frames * mel.hop_length) / mel.sampling_rate
    phase = 2 * torch.pi * (220 * t - 20 * t**2)
    audio = sum(torch.sin(k * phase) / k for k in range(1, 12)) * 0.1
    audio = audio + 1e-3 * torch.randn(len(t), generator=torch.Generator().manual_seed(3))
    return MelSpectrogram(mel)(audio[None])[:, :, :frames], audio[None]


def distance(mel: Tensor, audio: Tensor, of: MelConfig = MEL) -> float:
    """Mean absolute difference of log magnitudes."""
    return float((MelSpectrogram(of)(audio)[:, :, : mel.shape[2]] - mel).abs().mean())


def test_a_recording_passes_unchanged() -> None:
    """To its very ends, where frames reach beyond it."""
    mel, audio = glide(40)
    assert (fitter(16)(mel, audio) - audio).abs().max() < 1e-5 * audio.abs().max()


@pytest.mark.parametrize(
    "of",
    [MEL, replace(MEL, win_length=800), replace(MEL, sampling_rate=22050, hop_length=200)],
    ids=["usual", "short window", "other hop"],
)
def test_noise_takes_the_magnitudes_of_its_mel(of: MelConfig) -> None:
    mel, audio = glide(60, of)
    noise = 0.1 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    config = replace(CONFIG, upsample_stride=of.hop_length)
    far = []
    for rounds in (0, 1, 4, 16):
        consistency = fitter(rounds, of)
        consistency.hop = config.upsample_stride
        far.append(distance(mel, consistency(mel, noise), of))
    assert far[0] > 1
    assert all(b < 0.75 * a for a, b in itertools.pairwise(far)), far
    assert far[-1] < 0.25


def test_digital_silence_stays_silent() -> None:
    silent = torch.zeros(1, 40 * 256)
    mel = MelSpectrogram(MEL)(silent)[:, :, :40]
    fitted = fitter(4)(mel, 1e-3 * torch.randn(1, 40 * 256))
    assert fitted.isfinite().all()
    # The last half window is in fewer frames, and follows more slowly.
    assert fitted[:, :-512].abs().max() < 2e-4
    assert fitted.abs().max() < 1e-3
    assert torch.equal(fitter(4)(mel, silent), silent)


@pytest.mark.parametrize("front", ["none", "lpc_whiten"])
def test_streams_equal_the_whole(front: str) -> None:
    """Pieces of any size, and a batch that ends at different places, are what each is alone; and
    what comes out does not depend on the pieces to the bit."""
    config = replace(CONFIG, front=front, consistency=2)  # type: ignore[arg-type]
    model = trained_looking(config)
    tell_mel(model, MEL)
    total, frames = 90, [90, 47]
    mel = torch.cat([glide(total)[0], glide(total)[0].flip(2)])
    z = model.noise(2, total, torch.Generator().manual_seed(1))
    alone = []
    with torch.no_grad():
        for i, n in enumerate(frames):
            alone.append(model.infer(mel[i : i + 1, :, :n], z=z[i : i + 1, :, : n * 32])[0])
    outputs = []
    for cuts in ([0, 1, 14, 15, 40, total], [0, total]):
        together = inverse_stream(model, block=8, frames=frames)
        apart = SideBySide([inverse_stream(model, block=8, frames=[n]) for n in frames])
        for stream in (together, apart):
            got = torch.cat(
                [
                    stream.push(mel[:, :, a:b], z[:, :, a * 32 : b * 32], last=b == total)
                    for a, b in itertools.pairwise(cuts)
                ],
                dim=1,
            )
            outputs.append(got)
            for i, n in enumerate(frames):
                assert (got[i, : n * 256] - alone[i]).abs().max() <= 1e-4 * alone[i].abs().max()
    assert torch.equal(outputs[1][0], outputs[3][0])
    assert torch.equal(outputs[1][1, : 47 * 256], outputs[3][1, : 47 * 256])
    unfitted = inverse_stream(model, 0.0, 8).push(mel[:1], z[:1], last=True)
    assert (unfitted - model.infer(mel[:1], 0.0, z=z[:1])).abs().max() < 1e-5


def test_it_survives_its_folder(tmp_path: Path) -> None:
    config = replace(CONFIG, consistency=3)
    model = trained_looking(config)
    tell_mel(model, MEL)
    meta = {"sampling_rate": 16000, "mel": vars(MEL), "sigma": 1.0, "recipe": "r", "run": "r"}
    save_weights(tmp_path, model.state_dict(), config, meta)
    loaded, _ = load_model(tmp_path)
    assert loaded.config == config
    mel, z = glide(16)[0], model.noise(1, 16)
    with torch.no_grad():
        audio = model.infer(mel, z=z)
        assert torch.equal(loaded.infer(mel, z=z), audio)
        model.consistency = None
        assert distance(mel, audio) < 0.7 * distance(mel, model.infer(mel, z=z))
