"""The mel spectrogram is NVIDIA's: librosa's numbers, frame counts, padding."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.errors import UserError


def librosa_mel(audio: np.ndarray, c: MelConfig) -> np.ndarray:
    magnitude = np.abs(
        librosa.stft(
            audio,
            n_fft=c.n_fft,
            hop_length=c.hop_length,
            win_length=c.win_length,
            window="hann",
            pad_mode="reflect",
        )
    )
    filters = librosa.filters.mel(
        sr=c.sampling_rate, n_fft=c.n_fft, n_mels=c.n_mels, fmin=c.f_min, fmax=c.f_max
    )
    return np.log(np.maximum(filters @ magnitude, 1e-5))


@pytest.mark.parametrize(
    "config",
    [MelConfig(), MelConfig(sampling_rate=16000), MelConfig(n_fft=1024, win_length=800, n_mels=40)],
)
def test_equals_librosa(config: MelConfig) -> None:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 9000)).astype(np.float32)
    ours = MelSpectrogram(config)(torch.from_numpy(audio)).numpy()
    for row, mel in zip(audio, ours, strict=True):
        np.testing.assert_allclose(mel, librosa_mel(row, config), atol=1e-4)


@pytest.mark.parametrize(
    ("n_samples", "n_frames"), [(16000, 63), (15999, 63), (256, 2), (255, 1), (1, 1)]
)
def test_frame_counts(n_samples: int, n_frames: int) -> None:
    config = MelConfig()
    assert MelSpectrogram(config)(torch.zeros(1, n_samples)).shape == (1, 80, n_frames)
    assert config.n_frames(n_samples) == n_frames


def test_silence_is_the_floor() -> None:
    mel = MelSpectrogram(MelConfig())(torch.zeros(1, 4000))
    assert torch.allclose(mel, torch.tensor(1e-5).log())


def test_unequal_clips_batched_equal_one_at_a_time() -> None:
    mel = MelSpectrogram(MelConfig())
    torch.manual_seed(0)
    clips = [torch.rand(n) - 0.5 for n in (300, 5000, 4096, 9001)]
    for clip, batched in zip(clips, mel.batch(clips), strict=True):
        torch.testing.assert_close(batched, mel(clip[None])[0], atol=1e-5, rtol=1e-5)


def test_full_precision_under_autocast_and_nothing_in_checkpoints() -> None:
    mel = MelSpectrogram(MelConfig())
    audio = torch.rand(1, 4000) - 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mel(audio)
    assert torch.equal(inside, mel(audio))
    assert not mel.state_dict()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"f_max": 12000.0}, "f_max"),
        ({"win_length": 2048}, "win_length"),
        ({"hop_length": 0}, "hop_length"),
        ({"n_fft": 1025}, "n_fft=1025 must be even: set 1024 or 1026"),
    ],
)
def test_impossible_numbers(changes: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        MelConfig(**changes)
