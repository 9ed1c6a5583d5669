"""Model FLOPs of one training step: what the mathematics asks for, whoever computes it how.

Multiplications and additions of convolutions and matrix products, twice a multiplication, as
torch.utils.flop_counter counts them; what is elementwise is left out, as is customary. Recomputing
an activation is work and no model FLOP (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311,
appendix B), so a step that recomputes is charged its time and credited nothing. Nor is a segment
computed as part of another batch, or on another rank, worth more or less.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from wg.flow.config import FlowConfig


@functools.cache
def step_flops(
    config: FlowConfig,
    batch: int,
    samples: int,
    flows: tuple[int, ...] | None = None,
    width: int | None = None,
) -> int:
    """Model FLOPs of forward and backward for ``batch`` segments of ``samples`` samples with
    1 + samples // hop mel frames each. Known of every :class:`FlowConfig`; a shape that was asked
    for before costs a look-up.

    flows   that are computed; None: all
    width   channels of WN that are computed; None: all

    Every convolution counts its forward, its weight's gradient and its input's gradient alike;
    mel and audio have no gradient, so what reads them lacks the last.
    """
    computed = range(config.n_flows) if flows is None else sorted(flows)
    C = config.n_channels if width is None else width
    groups = samples // config.n_group
    trained, first_reads = _mel_path(config, samples)
    couplings = sum(_coupling(config, k, C) for k in computed) * groups
    cond, reads_mel = _conditioning(config, C, samples)
    trained += couplings + cond * len(computed)
    reads = first_reads + (cond * len(computed) if reads_mel else 0)
    if not config.actnorm:  # whose scale and offset stand between the audio and the first matrix
        reads += config.channels(computed[0]) ** 2 * groups
    return 2 * batch * (3 * trained - reads + _front(config, samples))


def parameters(config: FlowConfig) -> int:
    """Trained parameters: 87.9 million of the paper model."""
    M, C, L = config.n_mels, config.n_channels, config.n_layers
    total = 0
    if config.conditioning == "upsampled":
        total += M * M * config.upsample_kernel + M
    elif config.conditioning == "frame_rate":
        total += M * 2 * M * 5 + 2 * M + 2 * M * 2 * M * 3 + 2 * M

    def normed(inside: int, outside: int, kernel: int = 1) -> int:
        return outside * (inside * kernel + 2)  # direction, gain, bias

    for k in range(config.n_flows):
        c = config.channels(k)
        total += c * c + (2 * c if config.actnorm else 0)
        total += normed(c // 2, C) + normed(config.cond_channels, 2 * C * L)
        total += L * normed(C, 2 * C, config.kernel_size)
        total += (L - 1) * normed(C, 2 * C) + normed(C, C) + c * C + c
    return total


def _mel_path(config: FlowConfig, samples: int) -> tuple[int, int]:
    """(multiplications of a segment on the mel's way to the couplings, those that read the mel)."""
    M = config.n_mels
    if config.conditioning == "upsampled":
        up = (1 + samples // config.upsample_stride) * M * M * config.upsample_kernel
        return up, up
    if config.conditioning == "frame_rate":
        n = -(-samples // config.upsample_stride)  # frames; the encoder makes one more
        wide = (n + 3) * M * 2 * M * 5
        return wide + (n + 1) * (2 * M) ** 2 * 3, wide
    return 0, 0


def _conditioning(config: FlowConfig, C: int, samples: int) -> tuple[int, bool]:
    """(multiplications of a segment in one flow's projection, whether they read the mel)."""
    weights = config.cond_channels * 2 * C * config.n_layers
    if config.conditioning == "upsampled":
        return weights * (samples // config.n_group), False
    # At the rate of frames, with one frame more than they cover; then interpolated.
    n = -(-samples // config.upsample_stride) + 1
    return weights * n, config.conditioning == "interpolated"


def _coupling(config: FlowConfig, k: int, C: int) -> int:
    """Multiplications of flow ``k`` in a group of samples, less those of its conditioning."""
    return sum(_weights(config, config.channels(k), C))


def _weights(config: FlowConfig, channels: int, C: int) -> Iterator[int]:
    L = config.n_layers
    yield channels**2  # invertible 1x1
    yield channels // 2 * C  # start
    yield L * C * 2 * C * config.kernel_size  # dilated, gated
    yield (L - 1) * C * 2 * C + C * C  # residual and skip; the last layer has skip alone
    yield C * channels  # end


def _front(config: FlowConfig, samples: int) -> int:
    """Multiplications of a segment in the front end, which is computed forwards alone."""
    if config.front == "none":
        return 0
    frames = 1 + samples // config.upsample_stride
    envelope = frames * (config.front_n_fft // 2 + 1) * config.n_mels
    if config.front == "mel_whiten":
        return envelope
    step = min(32, config.upsample_stride)
    return envelope + -(-samples // step) * step * (config.front_order + 1)


def computed(active: Sequence[bool]) -> tuple[int, ...] | None:
    """``flows`` of :func:`step_flops` from a model's mask; None where all are computed."""
    return None if all(active) else tuple(k for k, on in enumerate(active) if on)
