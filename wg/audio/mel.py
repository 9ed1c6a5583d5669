"""The mel spectrogram that WaveGlow is conditioned on, exactly as NVIDIA computes it.

Source: github.com/NVIDIA/waveglow, ``mel2samp.py`` with Tacotron 2's ``TacotronSTFT``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wg.errors import UserError

LOG_FLOOR = 1e-5  # magnitudes are clamped here before the logarithm


@dataclass(frozen=True)
class MelConfig:
    """Numbers of the mel spectrogram: rates and frequencies in Hz, lengths in samples.

    Errors: UserError when the numbers cannot make a spectrogram.
    """

    sampling_rate: int = 22050
    n_fft: int = 1024
    hop_length: int = 256
    win_length: int = 1024
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0

    def __post_init__(self) -> None:
        for name in ("sampling_rate", "n_fft", "hop_length", "win_length", "n_mels"):
            if getattr(self, name) < 1:
                raise UserError(f"mel.{name}={getattr(self, name)} must be at least 1")
        if self.n_fft % 2:
            # Half of it is padded at either end; an odd one would lack the last frame.
            raise UserError(
                f"mel.n_fft={self.n_fft} must be even: set {self.n_fft - 1 or 2} or "
                f"{self.n_fft + 1}"
            )
        if self.win_length > self.n_fft:
            raise UserError(
                f"mel.win_length={self.win_length} is longer than mel.n_fft={self.n_fft}: "
                "make n_fft at least as long"
            )
        nyquist = self.sampling_rate / 2
        if not 0 <= self.f_min < self.f_max <= nyquist:
            raise UserError(
                f"mel.f_min={self.f_min:g} and mel.f_max={self.f_max:g} must satisfy "
                f"0 <= f_min < f_max <= {nyquist:g} Hz, half the sampling rate"
            )

    def n_frames(self, n_samples: int) -> int:
        """Frames that ``n_samples`` samples give: 1 + n_samples // hop_length."""
        return 1 + n_samples // self.hop_length


@functools.lru_cache(maxsize=8)
def _filterbank(config: MelConfig) -> np.ndarray:
    """librosa's mel filters (n_mels, n_fft // 2 + 1), Slaney scale and norm, float32."""
    import librosa  # slow to import, and only the filters come from it

    return librosa.filters.mel(
        sr=config.sampling_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        htk=False,
        norm="slaney",
    ).astype(np.float32)


class MelSpectrogram(nn.Module):
    """Audio (B, T) float32 in [-1, 1] -> log-mel (B, n_mels, 1 + T // hop_length) in nats.

    Reflect padding of n_fft / 2, periodic Hann window, magnitude (not power), mel filters,
    log(max(x, 1e-5)). Audio too short to be reflected (T <= n_fft / 2) is first continued
    with zeros; the number of frames stays 1 + T // hop_length.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        # Not persistent: checkpoints hold the model and nothing that a config determines.
        window = torch.hann_window(config.win_length, periodic=True)
        self.register_buffer("window", window, persistent=False)
        filters = torch.from_numpy(_filterbank(config).copy())
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (B, T) -> mel (B, n_mels, 1 + T // hop_length)."""
        return self.of_padded(self._pad(audio), self.config.n_frames(audio.shape[-1]))

    def batch(self, clips: list[Tensor]) -> list[Tensor]:
        """Clips of unequal lengths, each (T_i,) -> mels, each (n_mels, 1 + T_i // hop_length).

        Each clip is reflected at its own ends, so the result is that of one clip at a time.
        """
        padded = [self._pad(clip[None])[0] for clip in clips]
        # Zeros after a padded clip only reach frames beyond its own, which are cut off.
        stacked = nn.utils.rnn.pad_sequence(padded, batch_first=True)
        n_frames = [self.config.n_frames(clip.shape[-1]) for clip in clips]
        mels = self.of_padded(stacked, max(n_frames))
        return [mel[:, :n] for mel, n in zip(mels, n_frames, strict=True)]

    def _pad(self, audio: Tensor) -> Tensor:
        half = self.config.n_fft // 2
        audio = audio.float()
        if audio.shape[-1] <= half:
            audio = F.pad(audio, (0, half + 1 - audio.shape[-1]))
        return F.pad(audio[:, None], (half, half), mode="reflect")[:, 0]

    def of_padded(self, padded: Tensor, n_frames: int) -> Tensor:
        """The first ``n_frames`` of audio (B, T) that has n_fft / 2 samples of its own or of
        padding before the centre of its first frame."""
        config = self.config
        # Under autocast the filters would be applied in 16 bits.
        with torch.autocast(padded.device.type, enabled=False):
            spectrum = torch.stft(
                padded,
                config.n_fft,
                hop_length=config.hop_length,
                win_length=config.win_length,
                window=self.window,
                center=False,
                return_complex=True,
            )
            mel = torch.matmul(self.filters, spectrum.abs()[..., :n_frames])
            return torch.log(torch.clamp(mel, min=LOG_FLOOR))
