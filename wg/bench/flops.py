"""Model FLOPs of one training step: what the mathematics asks for, whoever computes it how.

Multiplications and additions of the convolutions, as torch.utils.flop_counter counts them; what
is elementwise is left out, as is customary. Recomputing an activation is work and no model FLOP
(Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B), so a step that recomputes is
charged its time and credited nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from wg.flow.config import FlowConfig


def step_flops(config: FlowConfig, batch: int, samples: int) -> int:
    """Model FLOPs of forward and backward of plain WaveGlow for ``batch`` segments of ``samples``
    samples with 1 + samples // hop mel frames each.

    Every convolution counts its forward, its weight's gradient and its input's gradient alike;
    mel and audio have no gradient, so the two convolutions that read them lack the last.
    """
    frames = 1 + samples // config.upsample_stride
    upsample = 2 * batch * frames * config.n_mels**2 * config.upsample_kernel
    first = 2 * batch * samples // config.n_group * config.n_group**2
    convolutions = sum(_convolutions(config)) * 2 * batch * (samples // config.n_group)
    return 3 * (upsample + convolutions) - upsample - first


def is_published(config: FlowConfig) -> bool:
    """Whether the network is one of the published kind, of whatever size."""
    return config.conditioning == "upsampled" and config.front == "none" and not config.actnorm


def _convolutions(config: FlowConfig) -> Iterator[int]:
    """Weights of every convolution at the rate of groups: multiplications at a position."""
    C, L = config.n_channels, config.n_layers
    for k in range(config.n_flows):
        channels = config.channels(k)
        yield channels**2  # invertible 1x1
        yield channels // 2 * C  # start
        yield config.n_mels * config.n_group * 2 * C * L  # conditioning
        yield L * C * 2 * C * config.kernel_size  # dilated, gated
        yield (L - 1) * C * 2 * C + C * C  # residual and skip; the last layer has skip alone
        yield C * channels  # end


def counted_flops(loss: Callable[[], Tensor]) -> int:
    """FLOPs of computing ``loss()`` and its gradients, counted while it is done: for networks that
    :func:`step_flops` does not know, built without strategies that recompute."""
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return int(counter.get_total_flops())
