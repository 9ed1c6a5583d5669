"""A batch to time steps on: sound with speech's spectrum and rhythm, made here from a seed."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from wg.audio.mel import MelConfig, MelSpectrogram

PITCH = (90.0, 220.0)  # Hz, of a voice
SYLLABLES = 4.0  # a second
LEVEL = 0.08  # RMS, of full scale: about -22 dBFS
NOISE = 0.002  # of full scale; breath and room, so that nothing is digital silence


class Batch(NamedTuple):
    """mel (B, n_mels, 1 + T // hop) in nats; audio (B, T) in [-1, 1]."""

    mel: Tensor
    audio: Tensor

    @property
    def samples(self) -> int:
        """Audio samples in it: B * T."""
        return self.audio.numel()


def make_batch(mel: MelConfig, batch: int, samples: int, seed: int = 0) -> Batch:
    """``batch`` segments of ``samples`` samples with the mels that training gives them."""
    audio = speech_like(batch, samples, mel.sampling_rate, seed)
    with torch.no_grad():
        return Batch(MelSpectrogram(mel)(audio), audio)


def speech_like(batch: int, samples: int, sampling_rate: int, seed: int = 0) -> Tensor:
    """Voices (B, T): harmonics of a wandering pitch that fall by 12 dB an octave, swelling and
    fading a few times a second, over a little noise."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.rand(batch, 1, generator=generator)

    t = torch.arange(samples) / sampling_rate
    low, high = PITCH
    pitch = low + (high - low) * draw()
    # Vibrato of 5%: the instantaneous frequency is pitch * (1 + 0.05 cos(...)).
    turn = 2 * math.pi * (pitch * t + 0.05 * pitch / 3 * torch.sin(3 * t + 6 * draw()))
    voiced = torch.zeros(batch, samples)
    for h in range(1, int(sampling_rate / 2 / high) + 1):
        voiced += torch.sin(h * turn + 2 * math.pi * draw()) / h**2
    swell = 0.5 - 0.5 * torch.cos(2 * math.pi * (SYLLABLES * t + draw()))
    audio = voiced * swell
    audio *= LEVEL / audio.square().mean(dim=1, keepdim=True).sqrt()
    return audio + NOISE * torch.randn(batch, samples, generator=generator)
