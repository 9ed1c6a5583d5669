"""Signal front ends: exact determinants, inverses to rounding, and they do whiten."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter
from tests_helpers import trained_looking
from torch import Tensor

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.errors import UserError
from wg.flow import FlowConfig, WaveGlow
from wg.flow.front import FrontEnd, front_end, levinson
from wg.flow.fronted import inverse_stream
from wg.flow.stream import SideBySide
from wg.train.prepare import tell_mel

MEL = MelConfig(sampling_rate=16000)
CONFIG = FlowConfig(n_flows=3, n_early_every=2, n_layers=2, n_channels=8, front_order=40)
FRONTS = ["mel_whiten", "lpc_whiten"]


def known_front(name: str, order: int = 40) -> FrontEnd:
    config = replace(CONFIG, front=name, front_order=order)  # type: ignore[arg-type]
    front = front_end(config)
    assert front is not None
    mel = MelSpectrogram(MEL)
    front.spectrum.set_mel(mel.filters, mel.window)
    return front


def voiced(T: int, batch: int = 1) -> Tensor:
    """Noise through a resonance that moves: audio (B, T) whose spectrum is known to be coloured."""
    noise = torch.randn(batch, T, generator=torch.Generator().manual_seed(0)).double().numpy()
    half = T // 2
    first = lfilter([1.0], [1.0, -1.7, 0.81], noise[:, :half])
    second = lfilter([1.0], [1.0, 0.9, 0.5], noise[:, half:])
    return 0.01 * torch.cat([torch.from_numpy(first), torch.from_numpy(second)], 1).float()


def mel_of(audio: Tensor) -> Tensor:
    return MelSpectrogram(MEL)(audio)


def test_levinson_solves_the_normal_equations() -> None:
    audio = voiced(4000)[0].double()
    r = torch.stack([(audio[: 4000 - k] * audio[k:]).sum() for k in range(17)])
    a, error = levinson(r[None])
    wanted = solve_toeplitz(r[:-1].numpy(), -r[1:].numpy())
    assert torch.allclose(a[0, 1:], torch.from_numpy(wanted), atol=1e-9)
    assert torch.isclose(error[0], (a[0] * r).sum())


@pytest.mark.parametrize("name", FRONTS)
def test_there_and_back(name: str) -> None:
    """To 3e-6 of the peak, at an order beyond a pitch period's."""
    front = known_front(name, order=128)
    audio = voiced(16000, batch=2)
    mel = mel_of(audio)
    excitation, _ = front(mel, audio)
    back = front.inverse(mel, excitation)
    assert (back - audio).abs().max() <= 3e-6 * audio.abs().max()
    assert not torch.allclose(excitation, audio, atol=0.1)


@pytest.mark.parametrize("name", FRONTS)
def test_the_determinant_is_the_jacobians(name: str) -> None:
    front = known_front(name, order=24).double()
    audio = voiced(512, batch=2)[:, :200].double()
    mel = mel_of(voiced(512, batch=2)).double()
    _, log_det = front(mel, audio)
    for b in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda x, b=b: front(mel[b : b + 1], x[None])[0][0], audio[b]
        )
        assert torch.isclose(torch.linalg.slogdet(jacobian).logabsdet, log_det[b], rtol=1e-9)


@pytest.mark.parametrize("name", FRONTS)
def test_it_whitens(name: str) -> None:
    """Unit variance, and what a front end says it removes is gone: neighbours within a group, and
    with prediction across groups too."""
    audio = voiced(64000)
    excitation, _ = known_front(name)(mel_of(audio), audio)
    body = excitation[0, 256:]
    assert 0.8 < float(body.square().mean()) < 1.2

    def correlation(x: Tensor, first: int) -> float:
        """Of samples ``first`` and ``first + 1`` of all groups."""
        groups = x[: len(x) // 8 * 8].view(-1, 8)
        pairs = groups if first < 7 else torch.cat([groups[:-1, 7:], groups[1:, :1]], 1)
        return float(torch.corrcoef(pairs[:, [first, first + 1] if first < 7 else [0, 1]].T)[0, 1])

    # Where the resonance is sharp, neighbours of the audio itself are nearly the same.
    assert correlation(audio[0, 256:32000], 3) > 0.9
    assert abs(correlation(body[:31744], 3)) < 0.1
    if name == "lpc_whiten":
        assert abs(correlation(body[:31744], 7)) < 0.1


@pytest.mark.parametrize("name", FRONTS)
def test_digital_silence_stays_finite(name: str) -> None:
    front = known_front(name)
    audio = torch.zeros(1, 4096)
    excitation, log_det = front(mel_of(audio), audio)
    assert excitation.isfinite().all()
    assert log_det.isfinite().all()
    assert front.inverse(mel_of(audio), torch.randn(1, 4096)).abs().max() < 1e-2


@pytest.mark.parametrize("conditioning", ["upsampled", "interpolated", "frame_rate"])
@pytest.mark.parametrize("front", ["none", *FRONTS])
def test_streams_equal_the_whole(conditioning: str, front: str) -> None:
    """Pieces of any size, and a batch that ends at different places, are what each is alone."""
    config = replace(CONFIG, conditioning=conditioning, front=front)  # type: ignore[arg-type]
    model = trained_looking(config)
    tell_mel(model, MEL)
    audio = voiced(64 * 256, batch=2)
    mel, frames = mel_of(audio)[:, :, :64], [64, 37]
    z = model.noise(2, 64, torch.Generator().manual_seed(1))
    alone = []
    with torch.no_grad():
        for i, n in enumerate(frames):
            alone.append(model.infer(mel[i : i + 1, :, :n], z=z[i : i + 1, :, : n * 32]))
    together = inverse_stream(model, block=8, frames=frames)
    apart = SideBySide([inverse_stream(model, block=8, frames=[n]) for n in frames])
    for stream in (together, apart):
        cuts = [0, 1, 14, 15, 40, 64]
        got = torch.cat(
            [
                stream.push(mel[:, :, a:b], z[:, :, a * 32 : b * 32], last=b == 64)
                for a, b in itertools.pairwise(cuts)
            ],
            dim=1,
        )
        for i, n in enumerate(frames):
            peak = alone[i].abs().max()
            assert (got[i, : n * 256] - alone[i][0]).abs().max() <= 1e-5 * peak


def test_another_mel_is_refused() -> None:
    front = front_end(replace(CONFIG, front="lpc_whiten"))
    assert front is not None
    mel = MelSpectrogram(replace(MEL, n_fft=2048))
    with pytest.raises(UserError, match=r"set data\.mel\.n_fft=1024"):
        front.spectrum.set_mel(mel.filters, mel.window)


def test_a_model_with_a_front_end_survives_its_folder(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from wg.checkpoint.weights import load_model, save_weights

    config = replace(CONFIG, front="lpc_whiten", conditioning="interpolated", actnorm=True)
    model = WaveGlow(config)
    tell_mel(model, MEL)
    meta = {"sampling_rate": 16000, "mel": vars(MEL), "sigma": 1.0, "recipe": "r", "run": "r"}
    save_weights(tmp_path, model.state_dict(), config, meta)
    loaded, _ = load_model(tmp_path)
    assert loaded.config == config
    mel, z = mel_of(voiced(4096))[:, :, :16], model.noise(1, 16)
    with torch.no_grad():
        assert torch.equal(loaded.infer(mel, z=z), model.infer(mel, z=z))


def test_no_more_lags_than_the_mel_tells() -> None:
    FlowConfig(front="lpc_whiten", front_order=256, front_n_fft=512)
    with pytest.raises(UserError, match=r"order=257 .*n_fft=512 tells: at most half of it"):
        FlowConfig(front="lpc_whiten", front_order=257, front_n_fft=512)
