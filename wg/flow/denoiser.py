"""Removing the model's own sound: what WaveGlow says when it has nothing to say.

Source: ``denoiser.py`` of github.com/NVIDIA/waveglow. The magnitude spectrum of the audio
generated from a mel of zeros with sigma 0 is the model's bias; a share of it is subtracted from
every frame of the audio's spectrum, and the phase is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wg.flow.config import FlowConfig
from wg.flow.fronted import inverse_stream
from wg.flow.stream import AudioStream
from wg.flow.waveglow import WaveGlow

BIAS_FRAMES = 88  # of zero mel, as in the source: the first spectrum depends on all of them
_N_FFT, _HOP = 1024, 256


def silence_of(model: WaveGlow) -> Tensor:
    """Audio (1, T) that ``model`` makes of :data:`BIAS_FRAMES` frames of zeros, sigma 0."""
    return silence_from(inverse_stream(model, sigma=0.0), model.config, model.like.device)


def silence_from(stream: AudioStream, config: FlowConfig, device: torch.device) -> Tensor:
    """The same from any backend's ``stream``, whose sigma must be 0."""
    mel = torch.zeros(1, config.n_mels, BIAS_FRAMES, device=device)
    groups = BIAS_FRAMES * config.upsample_stride // config.n_group
    z = torch.zeros(1, config.n_group, groups, device=device)
    return stream.push(mel, z, last=True)


class Denoiser:
    """Subtracts ``strength`` times the bias spectrum from audio, piece by piece or at once.

    bias     audio (1, T) of :func:`silence_of`
    strength 0 changes nothing; NVIDIA suggests 0.1 and less.
    """

    def __init__(self, bias: Tensor, strength: float = 0.1) -> None:
        self.window = torch.hann_window(_N_FFT, periodic=True, device=bias.device)
        first = F.pad(bias.float()[:, None], (_N_FFT // 2, 0), mode="reflect")[:, 0, :_N_FFT]
        self.bias = strength * torch.fft.rfft(first * self.window).abs()[..., None]  # (1, bins, 1)
        self._reset()

    def _reset(self) -> None:
        self._audio: Tensor | None = None  # padded input from frame self._frame on
        self._sum: Tensor | None = None  # overlapping frames that are not complete yet
        self._begun = False
        self._skip = _N_FFT // 2  # output that belongs to the padding
        self._owed = 0

    def __call__(self, audio: Tensor) -> Tensor:
        """Audio (B, T) -> audio (B, T)."""
        self._reset()
        return self.push(audio, last=True)

    @torch.no_grad()
    def push(self, audio: Tensor, last: bool = False) -> Tensor:
        """The next samples (B, n) -> what is certain by now, in order and without gaps; the rest
        with ``last``."""
        half = _N_FFT // 2
        if audio.device != self.bias.device:  # where the audio is, the work is done
            self.bias, self.window = self.bias.to(audio.device), self.window.to(audio.device)
        self._owed += audio.shape[1]
        x = audio if self._audio is None else torch.cat([self._audio, audio], dim=1)
        if not self._begun:
            if x.shape[1] <= half:
                if not last:
                    self._audio = x
                    return audio[:, :0]
                x = F.pad(x, (0, half + 1 - x.shape[1]))  # too short to be reflected
            x = F.pad(x[:, None].float(), (half, 0), mode="reflect")[:, 0]
            self._begun = True
        if last:
            # One hop more than the reflection, so that a last partial hop is covered too.
            tail = F.pad(x[:, None, -(half + 1) :], (0, half), mode="reflect")[:, 0, -half:]
            x = F.pad(torch.cat([x, tail], dim=1), (0, -(x.shape[1] + half) % _HOP))
        n = (x.shape[1] - _N_FFT) // _HOP + 1
        if n < 1:
            self._audio = x
            return audio[:, :0]
        out = self._overlap_add(x, n, last)
        self._audio = x[:, n * _HOP :]
        skip = min(self._skip, out.shape[1])
        self._skip -= skip
        out = out[:, skip:][:, : self._owed]
        self._owed -= out.shape[1]
        if last:
            self._reset()
        return out.to(audio.dtype)

    def _overlap_add(self, x: Tensor, n: int, last: bool) -> Tensor:
        frames = x.unfold(1, _N_FFT, _HOP)[:, :n] * self.window  # (B, n, n_fft)
        spectrum = torch.fft.rfft(frames).transpose(1, 2)  # (B, bins, n)
        magnitude = spectrum.abs()
        kept = (magnitude - self.bias).clamp_min(0.0)
        spectrum = torch.polar(kept, spectrum.angle())
        frames = torch.fft.irfft(spectrum.transpose(1, 2), n=_N_FFT) * self.window
        size = (n - 1) * _HOP + _N_FFT
        ones = (self.window**2).expand(1, n, _N_FFT)
        y = torch.cat([_fold(frames, size), _fold(ones, size)], dim=0)
        if self._sum is not None:
            y[:, : self._sum.shape[1]] += self._sum
        whole = size if last else n * _HOP
        self._sum = y[:, whole:].clone()
        # The squared windows sum to a constant except at the two ends.
        return y[:-1, :whole] / y[-1:, :whole].clamp_min(1e-8)


def _fold(frames: Tensor, size: int) -> Tensor:
    """Overlap-add (B, n, n_fft) -> (B, size)."""
    columns = frames.transpose(1, 2)
    return F.fold(columns, (1, size), (1, _N_FFT), stride=(1, _HOP))[:, 0, 0]
