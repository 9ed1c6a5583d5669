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


# Every relation of the hop to the window: at half of it, beyond half, all of it, beyond it.
HOPS = ((512, 256), (512, 300), (512, 400), (512, 512), (512, 600), (512, 1500), (1024, 1000),
        (64, 256), (2, 1), (2, 5))  # fmt: skip


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize(("n_fft", "hop"), HOPS)
def test_every_hop_that_a_config_may_have(n_fft: int, hop: int) -> None:
    config = MelConfig(n_fft=n_fft, win_length=n_fft, hop_length=hop, n_mels=8)
    spectrogram = MelSpectrogram(config)
    lengths = {1, n_fft // 2, n_fft // 2 + 1, n_fft, n_fft + 1, hop, hop + 1, 2 * hop, 3001, 4800}
    for n in sorted(lengths):
        audio = 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n))
        whole = spectrogram(audio[None])[0]
        assert whole.shape == (8, config.n_frames(n))
        for piece in (29, hop, hop + 1, n_fft, 1700, n - 1, n):
            if piece < 1 or n // piece > 500:
                continue
            stream = MelStream(config)
            starts = range(0, n, piece)
            parts = [stream.push(audio[i : i + piece], last=i + piece >= n) for i in starts]
            streamed = torch.cat(parts, dim=1)
            assert streamed.shape == whole.shape, (n, piece)
            # The floor and tiny magnitudes make the logarithm of a rounding error large.
            assert torch.allclose(streamed.exp(), whole.exp(), atol=1e-6, rtol=1e-5), (n, piece)


def test_what_is_kept_does_not_grow() -> None:
    stream = MelStream(MelConfig(n_fft=512, win_length=512, hop_length=100_000))
    for _ in range(50):
        stream.push(torch.zeros(1000))
        assert stream._audio is not None
        assert len(stream._audio) <= 512 + 1000
