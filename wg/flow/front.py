"""Signal front ends: audio <-> an excitation that is nearly white, by filters that the mel tells.

The mel is a smoothed spectrum, and the inverse Fourier transform of a power spectrum is the
autocorrelation (Wiener & Khinchin): second-order statistics of every stretch of audio are known
before anything is learned. A front end removes them exactly, so that the flow models what the mel
does not say. Both are invertible, linear in the audio, and have triangular Jacobians, whose
log-determinant is a sum of log gains.

Shapes: B batch, M mel bands, F frames, T samples, n steps of ``step`` samples.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wg.errors import UserError
from wg.flow.config import FlowConfig

# Relative to a frame's mean power, and of a step of 16 bits: keeps silence invertible, and the
# prediction filters from following what a mel cannot resolve.
_RELATIVE_FLOOR, _FLOOR = 1e-5, 1e-8
# Mean of the squared magnitude over the square of the mean magnitude of a Gaussian signal's
# spectrum is 4 / pi; speech has been found nearer to this.
_POWER_OF_MEAN = 1.15
_BLOCK = 256  # steps that are unrolled at a time, which bounds memory


class FrontStream(Protocol):
    """The inverse in pieces: excitation (B, s * step) with its mel -> audio (B, s * step)."""

    def __call__(self, mel: Tensor, excitation: Tensor) -> Tensor: ...


class Spectrum(nn.Module):
    """Log-mel -> autocorrelation of the audio around every step of ``step`` samples.

    envelope  (n_fft / 2 + 1, M): from band magnitudes to the magnitude of every bin, the mean of
              the bands that cover it, weighted by their filters
    energy    sum of the squared analysis window
    """

    envelope: Tensor
    energy: Tensor

    def __init__(self, config: FlowConfig, lags: int, step: int) -> None:
        super().__init__()
        self.hop, self.lags, self.step = config.upsample_stride, lags, step
        bins = config.front_n_fft // 2 + 1
        self.register_buffer("envelope", torch.zeros(bins, config.n_mels))
        self.register_buffer("energy", torch.ones(()))

    @torch.no_grad()
    def set_mel(self, filters: Tensor, window: Tensor) -> None:
        """filters (M, n_fft / 2 + 1) and analysis window (n_fft,) of the mel that will come."""
        if filters.T.shape != self.envelope.shape:
            raise UserError(
                f"the front end expects {self.envelope.shape[1]} mel bands of "
                f"{self.envelope.shape[0]} bins, and the data's mel has {filters.shape[0]} of "
                f"{filters.shape[1]}: set data.mel.n_fft={2 * (self.envelope.shape[0] - 1)}."
            )
        area = filters.sum(1, keepdim=True).clamp_min(1e-12)
        weights = (filters / area).double()
        covered = weights.sum(0)
        matrix = (weights / area).T / covered.clamp_min(1e-12)[:, None]
        # Bins below the first and above the last band take the nearest bin that has one.
        known = torch.nonzero(covered > 1e-12)[:, 0]
        nearest = known[(torch.arange(len(covered))[:, None] - known[None]).abs().argmin(1)]
        self.envelope.copy_(matrix[nearest])
        self.energy.copy_((window.double() ** 2).sum())

    def forward(self, mel: Tensor, n: int) -> Tensor:
        """mel (B, M, F) log magnitudes -> (B, n, lags) in fp64, interpolated between frames."""
        magnitude = self.envelope.double() @ mel.double().exp()
        power = _POWER_OF_MEAN * magnitude**2
        power = power + _RELATIVE_FLOOR * power.mean(1, keepdim=True) + _FLOOR
        r = torch.fft.irfft(power.transpose(1, 2))[:, :, : self.lags] / self.energy.double()
        at = (self.step * torch.arange(n, device=mel.device) + (self.step - 1) / 2) / self.hop
        frame = at.long()
        share = (at - frame).double()[:, None]
        last = r.shape[1] - 1
        return (1 - share) * r[:, frame.clamp_max(last)] + share * r[:, (frame + 1).clamp_max(last)]


def levinson(r: Tensor) -> tuple[Tensor, Tensor]:
    """Linear prediction from autocorrelation (Levinson 1947, Durbin 1960): r (..., p + 1) ->
    (error filter a (..., p + 1) with a[0] = 1, variance of the prediction error (...))."""
    rows = r.movedim(-1, 0).contiguous()
    a = torch.zeros_like(rows)
    a[0] = 1
    error = rows[0].clone()
    for i in range(1, len(rows)):
        k = -(a[:i] * rows[1 : i + 1].flip(0)).sum(0) / error
        a[1 : i + 1] += k * a[:i].flip(0)
        error = error * (1 - k * k)
    return a.movedim(0, -1), error


class LpcWhitening(nn.Module):
    """Time-varying linear prediction: audio -> prediction error over its expected gain.

    Filters change every ``step`` samples; before the first sample there is silence. The
    Jacobian is triangular with 1 / gain on its diagonal.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.order, self.step = config.front_order, min(32, config.upsample_stride)
        self.spectrum = Spectrum(config, self.order + 1, self.step)

    def forward(self, mel: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """mel (B, M, F), audio (B, T) -> excitation (B, T), log|det| (B,)."""
        T, n = audio.shape[1], -(-audio.shape[1] // self.step)
        a, gain = self._filters(mel, n)
        padded = F.pad(audio.double(), (self.order, n * self.step - T))
        past = padded.unfold(1, self.step + self.order, self.step)  # (B, n, step + order)
        pieces = []
        for at in range(0, n, _BLOCK):
            # Every sample's past against the filter of its step, oldest first.
            windows = past[:, at : at + _BLOCK].unfold(2, self.order + 1, 1)
            pieces.append((windows @ a[:, at : at + _BLOCK].flip(-1)[..., None])[..., 0])
        error = torch.cat(pieces, dim=1) / gain[..., None]
        excitation = error.reshape(audio.shape[0], -1)[:, :T].to(audio.dtype)
        samples = torch.full((n,), float(self.step), dtype=torch.float64, device=audio.device)
        samples[-1] = T - (n - 1) * self.step
        return excitation, -(gain.log() * samples).sum(1).to(audio.dtype)

    def _filters(self, mel: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """(a (B, n, order + 1), gain (B, n)) in fp64."""
        a, error = levinson(self.spectrum(mel, n))
        return a, error.sqrt()

    def inverse(self, mel: Tensor, excitation: Tensor) -> Tensor:
        """mel (B, M, F), excitation (B, T) -> audio (B, T)."""
        return self.synthesis(mel, excitation, None)[0]

    def synthesis(
        self, mel: Tensor, excitation: Tensor, past: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(audio (B, T), its last ``order`` samples in fp64), going on from ``past`` (B, order).

        A recursion over steps, each a product with two matrices that are made for all steps at
        once; in fp64, because poles near the unit circle keep what rounding adds.
        """
        B, T = excitation.shape
        p, S, n = self.order, self.step, -(-T // self.step)
        a, gain = self._filters(mel, n)
        driven = F.pad(excitation.double(), (0, n * S - T)).view(B, n, S) * gain[..., None]
        x = driven.new_zeros(B, p + n * S)
        if past is not None:
            x[:, :p] = past
        for at in range(0, n, _BLOCK):
            offset, matrix = self._recursion(a[:, at : at + _BLOCK], driven[:, at : at + _BLOCK])
            for i in range(offset.shape[1]):
                t = (at + i) * S
                new = torch.baddbmm(offset[:, i], matrix[:, i], x[:, t : t + p, None])
                x[:, t + p : t + p + S] = new[..., 0]
        return x[:, p : p + T].to(excitation.dtype), x[:, T : T + p].clone()

    def _recursion(self, a: Tensor, driven: Tensor) -> tuple[Tensor, Tensor]:
        """(offset (B, m, step, 1), matrix (B, m, step, order)): a step's samples are offset +
        matrix @ past.

        Row i of a step says sum_j a[j] x[i - j] = driven[i]: a part that meets the past, and a
        triangular Toeplitz matrix to solve with.
        """
        p, S = self.order, self.step
        wide = F.pad(a.flip(-1), (S - 1, S - 1))  # (B, m, p + 2 S - 1)
        rows = wide.unfold(2, p + S, 1).flip(2)  # row i: a, newest last, shifted right by i
        right = torch.cat([driven[..., None], -rows[..., :p]], dim=3)
        solved = torch.linalg.solve_triangular(
            rows[..., p:], right, upper=False, unitriangular=True
        )
        return solved[..., :1], solved[..., 1:]


class MelWhitening(nn.Module):
    """The covariance of every group of samples, as the mel tells it, removed by its Cholesky
    factor: group = L e. Groups do not see each other, so both directions are parallel; what
    correlates groups is left to the flow."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.step = config.n_group
        self.spectrum = Spectrum(config, config.n_group, self.step)

    def _factor(self, mel: Tensor, n: int) -> Tensor:
        """L (B, n, n_group, n_group), fp64."""
        r = self.spectrum(mel, n)
        lag = torch.arange(self.step, device=mel.device)
        # Unchecked: a GPU would be waited for. It is a covariance with a floor, and a factor of
        # none would not be finite.
        return torch.linalg.cholesky_ex(r[..., (lag[:, None] - lag[None]).abs()]).L

    def forward(self, mel: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """mel (B, M, F), audio (B, T) -> excitation (B, T), log|det| (B,)."""
        B, T = audio.shape
        L = self._factor(mel, T // self.step)
        groups = audio.double().view(B, -1, self.step, 1)
        e = torch.linalg.solve_triangular(L, groups, upper=False)
        log_det = -L.diagonal(dim1=2, dim2=3).log().sum((1, 2))
        return e.reshape(B, T).to(audio.dtype), log_det.to(audio.dtype)

    def inverse(self, mel: Tensor, excitation: Tensor) -> Tensor:
        """mel (B, M, F), excitation (B, T) -> audio (B, T)."""
        return self.synthesis(mel, excitation, None)[0]

    def synthesis(
        self, mel: Tensor, excitation: Tensor, past: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(audio (B, T), nothing to remember)."""
        B, T = excitation.shape
        groups = excitation.double().view(B, -1, self.step, 1)
        audio = self._factor(mel, T // self.step) @ groups
        return audio.reshape(B, T).to(excitation.dtype), excitation.new_zeros(B, 0)


FrontEnd = LpcWhitening | MelWhitening


def front_end(config: FlowConfig) -> FrontEnd | None:
    """The front end that ``config.front`` names, before it knows its mel."""
    if config.front == "none":
        return None
    return LpcWhitening(config) if config.front == "lpc_whiten" else MelWhitening(config)
