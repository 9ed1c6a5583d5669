"""Mel frames of pieces equal those of the whole."""

from __future__ import annotations

import pytest
import torch

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.audio.mel_stream import MelStream

CONFIGS = (MelConfig(sampling_rate=16000), MelConfig(n_fft=512, win_length=400, hop_length=128))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("n", [1, 100, 512, 513, 600, 5000, 20001])
@pytest.mark.parametrize("piece", [97, 700, 4096, 100_000])
def test_pieces_equal_the_whole(config: MelConfig, n: int, piece: int) -> None:
    torch.manual_seed(n)
    audio = 0.1 * torch.randn(n)
    whole = MelSpectrogram(config)(audio[None])[0]
    stream = MelStream(config)
    parts = [stream.push(audio[i : i + piece], last=i + piece >= n) for i in range(0, n, piece)]
    streamed = torch.cat(parts, dim=1)
    assert streamed.shape == whole.shape == (80, config.n_frames(n))
    assert float((streamed - whole).abs().max()) < 2e-6


def test_an_end_that_comes_empty() -> None:
    config = CONFIGS[0]
    audio = 0.1 * torch.randn(3000)
    stream = MelStream(config)
    parts = [stream.push(audio), stream.push(audio[:0], last=True)]
    assert parts[0].shape[1] > 0
    whole = MelSpectrogram(config)(audio[None])[0]
    assert float((torch.cat(parts, dim=1) - whole).abs().max()) < 2e-6
