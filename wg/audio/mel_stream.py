"""Mel frames of audio that arrives in pieces, equal to :class:`MelSpectrogram` of the whole."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wg.audio.mel import MelConfig, MelSpectrogram


class MelStream:
    """Audio pieces -> mel frames; nothing but one window's width is kept between them.

    Frame f needs the samples up to f * hop_length + n_fft / 2, and the last frames the end of
    the audio, at which it is reflected.
    """

    def __init__(self, config: MelConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.spectrogram = MelSpectrogram(config).to(device)
        self._audio: Tensor | None = None  # what is still needed
        # Where in it the next frame's window starts. Not at 0 while samples before it are kept
        # to be reflected at the end, and beyond it while a hop longer than n_fft skips some.
        self._start = 0
        self._begun = False
        self._samples = self._frames = 0

    @torch.no_grad()
    def push(self, audio: Tensor, last: bool = False) -> Tensor:
        """Audio (n,) -> mel (n_mels, f) of the frames that are complete by now. With ``last``
        the frames add up to 1 + T // hop_length."""
        c, half = self.config, self.config.n_fft // 2
        self._samples += audio.shape[0]
        x = audio if self._audio is None else torch.cat([self._audio, audio])
        none = x.new_zeros(c.n_mels, 0)
        if not self._begun:
            if x.shape[0] <= half:
                self._audio = x
                # Too short to be reflected: what becomes of it is the spectrogram's to say.
                return self.spectrogram(x[None])[0] if last else none
            x = F.pad(x[None, None], (half, 0), mode="reflect")[0, 0]
            self._begun = True
        if last:
            tail = F.pad(x[None, None, -(half + 1) :], (0, half), mode="reflect")[0, 0, -half:]
            x = torch.cat([x, tail])
        n = (x.shape[0] - self._start - c.n_fft) // c.hop_length + 1
        if last:
            n = c.n_frames(self._samples) - self._frames
        mel = none
        if n > 0:
            mel = self.spectrogram.of_padded(x[None, self._start :], n)[0]
            self._start += n * c.hop_length
            self._frames += n
        # The end of the audio is reflected, so its last half + 1 samples must stay.
        done = max(0, min(self._start, x.shape[0] - (half + 1)))
        self._audio = x[done:]
        self._start -= done
        return mel
