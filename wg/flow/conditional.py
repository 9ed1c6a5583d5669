"""Data-dependent initialisation of the first couplings: the signal's scale, given the mel.

After whitening in principal components every channel of a group is about a band of the spectrum,
and its level at any time is a function of the mel, nearly a linear one between logarithms. That
function is fitted in closed form and written into the weights of two couplings (the first
scales one half of the channels, the second the other), through one unit of WN for each channel:

    log_s[c] = A tanh(e (v . mel + const))        e small, so that tanh is nearly linear

Nothing of the architecture changes and all weights go on learning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from wg.errors import UserError
from wg.flow.conditioning import LEAK, FrameEncoder, Interpolation, TransposedConv
from wg.flow.layers import Invertible1x1Conv, WeightNormConv1d
from wg.flow.waveglow import WaveGlow
from wg.flow.wn import WN

_FLOOR = (0.5 / 32768) ** 2  # half a step of 16 bits, as a variance
_SLOPE = 0.2  # e: tanh is within 8% of linear over five nats of level to either side
_NEWTON, _CONVERGED = 20, 0.01  # steps at most; nats, at any frame
_RIDGE = 1e-4


def principal_whitening(covariance: Tensor) -> Tensor:
    """(C, C), fp64: to unit variance along the principal axes, the largest first."""
    values, vectors = torch.linalg.eigh(covariance.double())
    order = values.argsort(descending=True)
    return (vectors[:, order] * values[order].clamp_min(_FLOOR).rsqrt()).T


def frame_powers(
    clips: Iterable[tuple[Tensor, Tensor]], whitening: Tensor, hop: int, n_samples: int
) -> tuple[Tensor, Tensor]:
    """(mels (N, M), mean squares (N, C) of the whitened channels) of N frames.

    clips: (mel (M, F), signal (T,)) each, until ``n_samples`` are read. A frame's samples are
    those from its centre on, which is what the upsampling gives its values to.
    """
    C = whitening.shape[0]
    mels, powers, left = [], [], n_samples
    for mel, signal in clips:
        n = min(len(signal) // hop, mel.shape[1], max(left // hop, 0))
        if n == 0:
            continue
        groups = signal[: n * hop].double().view(n, hop // C, C)
        powers.append((groups @ whitening.T).square().mean(1))
        mels.append(mel[:, :n].T.double())
        left -= n * hop
        if left < hop:
            break
    if not mels:
        raise UserError(f"no training clip is as long as a hop of {hop} samples: nothing to fit.")
    return torch.cat(mels), torch.cat(powers)


class LogScale(NamedTuple):
    """log_s = middle + (mel - mean) / std @ slope: slope (M, C), middle (C,), mean and std (M,)."""

    slope: Tensor
    middle: Tensor
    mean: Tensor
    std: Tensor


def fit_log_scale(mels: Tensor, powers: Tensor) -> LogScale:
    """Linear functions of the mel by which channels are to be scaled, of the largest likelihood
    of Gaussian channels with these mean squares.

    mels (N, M), powers (N, C), fp64. The likelihood is concave; Newton's method finds its top.
    """
    mean, std = mels.mean(0), mels.std(0).clamp_min(1e-3)
    x = torch.cat([(mels - mean) / std, torch.ones(len(mels), 1, dtype=mels.dtype)], dim=1)
    powers = powers + 1e-6 * powers.mean(0)
    # Where least squares on the logarithm ends is near enough to begin.
    ridge = _RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    gram = x.T @ x / len(x)
    theta = torch.linalg.solve(gram + ridge, x.T @ (-0.5 * powers.log()) / len(x))
    for c in range(powers.shape[1]):
        for _ in range(_NEWTON):
            weight = (2 * x @ theta[:, c]).clamp_max(30.0).exp() * powers[:, c]
            gradient = x.T @ (weight - 1) / len(x) + _RIDGE * theta[:, c]
            hessian = 2 * (x * weight[:, None]).T @ x / len(x) + ridge
            step = torch.linalg.solve(hessian, gradient)
            change = float((x @ step).abs().max())
            # A step of more than two nats for some frame is beyond what the quadratic knows.
            theta[:, c] -= step / max(1.0, change / 2)
            if change < _CONVERGED:
                break
    return LogScale(theta[:-1], theta[-1], mean, std)


@torch.no_grad()
def start_at_scale(model: WaveGlow, whitening: Tensor, scale: LogScale) -> None:
    """Write the whitening into the first computed flow and the whitened channels' scales into the
    first two. Where an early output lies between those, one half keeps its scale."""
    if isinstance(model.upsample, TransposedConv):
        hold_frames(model.upsample, scale.mean, scale.std)
    elif isinstance(model.upsample, FrameEncoder):
        pass_through(model.upsample)
    first, *others = [k for k, on in enumerate(model.active) if on]
    C = whitening.shape[0]
    mixing = model.convinv[first]
    assert isinstance(mixing, Invertible1x1Conv)
    mixing.set_matrix(whitening.to(mixing.matrix))
    halves = torch.arange(C).chunk(2)
    _write(model, first, halves[0 if model.config.swaps(first) else 1], scale)
    if not others or model.config.channels(others[0]) != C:
        return
    second = others[0]
    mixing = model.convinv[second]
    assert isinstance(mixing, Invertible1x1Conv)
    # The half that the first coupling scaled must condition the second, or be left alone.
    eye = torch.eye(C).to(mixing.matrix)
    same = model.config.swaps(first) == model.config.swaps(second)
    mixing.set_matrix(eye.roll(C // 2, 0) if same else eye)
    _write(model, second, halves[1 if model.config.swaps(first) else 0], scale)


@torch.no_grad()
def hold_frames(conv: TransposedConv, mean: Tensor, std: Tensor) -> None:
    """Upsampling that holds every frame, normalised, for a hop."""
    conv.weight.zero_()
    bands = torch.arange(conv.weight.shape[0])
    conv.weight[bands, bands, : conv.hop] = (1 / std).to(conv.weight)[:, None]
    assert conv.bias is not None
    conv.bias.copy_(-mean / std)


@torch.no_grad()
def pass_through(encoder: FrameEncoder) -> None:
    """An encoder whose first M channels are the normalised mel itself: x = (f(x) - f(-x)) / 1.2
    for the encoder's leaky rectifier f. The others stay as they were started."""
    M = encoder.mean.shape[0]
    eye = torch.eye(M).to(encoder.wide.weight)
    for conv in (encoder.wide, encoder.narrow):
        assert conv.bias is not None
        conv.bias.zero_()
    encoder.wide.weight.zero_()
    encoder.wide.weight[:, :, encoder.wide.kernel_size[0] // 2] = torch.cat([eye, -eye])
    encoder.narrow.weight[:M] = 0.0
    middle = encoder.narrow.kernel_size[0] // 2
    encoder.narrow.weight[:M, :, middle] = torch.cat([eye, -eye], dim=1) / (1 + LEAK)


def _write(model: WaveGlow, k: int, channels: Tensor, scale: LogScale) -> None:
    """Flow k's log_s of ``channels``, in the order in which they arrive there."""
    wn = model.WN[k]
    assert isinstance(wn, WN)
    C, half = wn.n_channels, len(channels)
    # In a WN narrower than its half, the last channels keep the scale that they have.
    channels = channels[:C]
    units = torch.arange(len(channels))
    slope = scale.slope[:, channels]
    cond, start = wn.cond_layer, wn.in_layers[0]
    assert isinstance(cond, WeightNormConv1d)
    assert isinstance(start, WeightNormConv1d)
    if isinstance(model.upsample, Interpolation):
        path_mean, path_std = model.upsample.mean.double()[:, 0], model.upsample.std.double()[:, 0]
        rows = (slope * (path_std / scale.std)[:, None]).T
        at_zero = (path_mean - scale.mean) / scale.std @ slope
        rows = torch.nn.functional.pad(rows, (0, model.upsample.channels - rows.shape[1]))
    else:
        # Every sample of a group carries the mel; the middle one speaks for it.
        G = model.config.n_group
        rows = torch.zeros(len(units), slope.shape[0], G, dtype=slope.dtype)
        rows[:, :, G // 2] = slope.T
        rows = rows.flatten(1)
        at_zero = torch.zeros(len(units), dtype=slope.dtype)
    # The direction in v is as long as that of any other unit, so that one step of an optimizer
    # turns it no further; the gain tells its size.
    norm = rows.norm(dim=1).clamp_min(1e-8)
    usual = cond.weight_v.flatten(1).norm(dim=1).mean()
    cond.weight_v[units, :, 0] = (rows / norm[:, None]).to(cond.weight_v) * usual
    cond.weight_g[units, 0, 0] = _SLOPE * norm.to(cond.weight_g)
    cond.bias[units] = _SLOPE * at_zero.to(cond.bias)
    # The unit sees nothing but the mel, and its gate stands half open.
    for layer, at in ((start, units), (start, C + units), (cond, C + units)):
        layer.weight_g[at] = 0.0
        layer.bias[at] = 0.0
    for i, res_skip in enumerate(wn.res_skip_layers):
        assert isinstance(res_skip, WeightNormConv1d)
        skip = units if i == wn.n_layers - 1 else C + units
        res_skip.bias[skip] = 0.0
        if i:
            res_skip.weight_g[skip] = 0.0
        else:
            res_skip.weight_v[skip] = torch.eye(C)[units, :, None].to(res_skip.weight_v)
            res_skip.weight_g[skip] = 1.0
    assert wn.end.bias is not None
    wn.end.weight[half + units, units, 0] = 2 / _SLOPE
    wn.end.bias[half + units] = scale.middle[channels].to(wn.end.bias)
