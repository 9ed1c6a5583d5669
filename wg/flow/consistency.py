"""Generated audio, fitted to the mel that it was generated from.

The mel of a recording is a function of the recording. The mel of what a flow says is not the mel
that it was given: noise has magnitudes of its own, and the ear hears them. So a round measures the
mel of the audio, and scales every bin of its spectrum by how far the bands around it are from
what was asked; the phase is kept, as in Griffin & Lim 1984, and so is what is finer than a band.
Rounds overshoot a little and carry momentum (Perraudin, Balazs & Soendergaard 2013: "A fast
Griffin-Lim algorithm").

A recording with its own mel passes unchanged: what training sees is the same with and without.

Shapes: B batch, M mel bands, F frames, T = F * hop samples, N = n_fft.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wg.flow.config import FlowConfig

_OVERSHOOT, _MOMENTUM = 1.2, 0.8
_FLOOR = 1e-5  # of magnitudes, as in the mel
_MOST = 4.6  # nepers that a band is scaled by in a round: a hundred times


class MelConsistency(nn.Module):
    """``rounds`` of fitting audio (B, T) to a mel (B, M, F).

    filters  (M, N / 2 + 1) and window (N,) of the mel's analysis
    """

    filters: Tensor
    window: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.rounds, self.hop = config.consistency, config.upsample_stride
        bins = config.front_n_fft // 2 + 1
        self.register_buffer("filters", torch.zeros(config.n_mels, bins))
        self.register_buffer("window", torch.zeros(config.front_n_fft))

    @torch.no_grad()
    def set_mel(self, filters: Tensor, window: Tensor) -> None:
        """filters (M, N / 2 + 1) and analysis window (at most N,) of the mel that will come."""
        self.filters.copy_(filters)
        spare = len(self.window) - len(window)
        self.window.copy_(F.pad(window, (spare // 2, spare - spare // 2)))

    @property
    def reach(self) -> int:
        """Frames on either side of a frame that its audio depends on."""
        return self.rounds * -(-len(self.window) // self.hop)

    def forward(self, mel: Tensor, audio: Tensor) -> Tensor:
        """mel (B, M, F) log magnitudes, audio (B, T) -> audio (B, T)."""
        ends = torch.full((audio.shape[0],), mel.shape[2], device=audio.device)
        return self.window_of(mel, audio, 0, ends)

    def window_of(self, mel: Tensor, audio: Tensor, first: int, ends: Tensor) -> Tensor:
        """The same for frames ``first``, first + 1, ... of longer audio, which ends after frame
        ``ends`` (B,) of each item; right but for :attr:`reach` frames at cuts."""
        half, hop = len(self.window) // 2, self.hop
        T, n = audio.shape[1], mel.shape[2]
        target = mel.float().transpose(1, 2)
        frame = torch.arange(first, first + n, device=audio.device)
        known = (frame >= 0) & (frame < ends[:, None])  # (B, n)
        # Where each sample, and half a window around all, is found: reflected at both ends.
        at = torch.arange(-half, T + half, device=audio.device) + first * hop
        last = ends[:, None] * hop - 1
        at = torch.where(at > last, 2 * last - at, at.abs().expand(len(ends), -1))
        at = (at - first * hop).clamp(0, T - 1)
        filters = self.filters.float()
        # A band's share in a bin; bins of no band keep what they have.
        spread = filters / filters.sum(0).clamp_min(1e-12)
        window = self.window.float()
        period = F.pad(window**2, (0, -len(window) % hop)).view(-1, hop).sum(0).clamp_min(1e-8)
        y = audio.float()
        before: Tensor | None = None
        for _ in range(self.rounds):
            frames = y.gather(1, at).unfold(1, 2 * half, hop)[:, :n] * window  # (B, n, N)
            spectrum = torch.fft.rfft(frames)
            magnitude = (spectrum.abs() @ filters.T).clamp_min(_FLOOR)
            missing = (target - magnitude.log()).clamp(-_MOST, _MOST) * known[..., None]
            change = torch.fft.irfft(spectrum * torch.expm1(_OVERSHOOT * missing @ spread))
            change = (change * window).transpose(1, 2)
            size = (n - 1) * hop + 2 * half
            added = F.fold(change, (1, size), (1, 2 * half), stride=(1, hop))[:, 0, 0]
            x = y + F.pad(added, (0, hop))[:, half : half + T] / period.repeat(n)
            y = x if before is None else x + _MOMENTUM * (x - before)
            before = x
        return (y if before is None else before).to(audio.dtype)
