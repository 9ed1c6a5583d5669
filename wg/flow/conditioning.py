"""The mel's way to the couplings: from frames to what every WN's ``cond_layer`` is applied to.

All ways share one interface, so that the flow, its stream and its export know no difference:

    channels         that ``cond_layer`` reads
    before, after    mel frames around a frame that its samples depend on
    like             a tensor of its device and dtype
    context          mel -> :class:`Context`, once for all couplings
    project          a ``cond_layer`` applied to a Context -> (B, O, T')
    windowed         frames with their surroundings -> the context at the rate of groups
    continued        a whole mel with the surroundings that its ends have not

B batch, M mel bands, F frames, T samples, T' = T / n_group groups, O channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wg.errors import UserError
from wg.flow import fused_upsample
from wg.flow.config import FlowConfig

LEAK = 0.2  # slope of the encoder's rectifier below zero


class Context(NamedTuple):
    """features (B, channels, n): at the rate of groups, or of frames with one frame more than
    they cover; groups: T', how many groups are wanted of them."""

    features: Tensor
    groups: int


class TransposedConv(nn.ConvTranspose1d):
    """The published way: learned upsampling to the audio's rate, then ``n_group`` samples of
    every band to a group (Prenger et al. 2018, section 2.3). Its parameters are ``weight`` and
    ``bias``, as in every published checkpoint.

    composed   project by one convolution that is made of the upsampling's and ``cond_layer``'s:
               fewer products where there are many groups, more where there are few
    fused      compute the upsampling by :mod:`wg.flow.fused_upsample` where that can be
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(
            config.n_mels, config.n_mels, config.upsample_kernel, stride=config.upsample_stride
        )
        self.n_group, self.hop = config.n_group, config.upsample_stride
        self.composed = self.fused = False
        self.channels = config.cond_channels
        self.before = -(-config.upsample_kernel // config.upsample_stride) - 1
        self.after = 0

    @property
    def like(self) -> Tensor:
        return self.weight

    def context(self, mel: Tensor, samples: int) -> Context:
        """mel (B, M, F) -> the upsampled mel of the first ``samples`` samples in groups,
        (B, M * n_group, T'), index mel * n_group + offset in the group; the mel as it is where
        the projection is composed."""
        if self.composed and self._covered(mel) >= samples:
            return Context(mel, samples // self.n_group)
        if self.fused and self._covered(mel) >= samples and fused_upsample.can_fuse(self, mel):
            grouped = fused_upsample.grouped(self, mel, samples, self.n_group)
            return Context(grouped, samples // self.n_group)
        up = self(mel)
        if up.shape[2] < samples:
            raise UserError(_too_short(mel.shape[2], up.shape[2], samples))
        B, M, _ = up.shape
        G = self.n_group
        up = up[:, :, :samples].reshape(B, M, samples // G, G)
        return Context(up.permute(0, 1, 3, 2).reshape(B, M * G, samples // G), samples // G)

    def project(self, layer: Callable[[Tensor], Tensor], context: Context) -> Tensor:
        """(B, O, T')."""
        if self.composed and context.features.shape[1] != self.channels:
            return self._composed(layer, context)
        return layer(context.features)

    def _covered(self, mel: Tensor) -> int:
        return (mel.shape[2] - 1) * self.hop + self.kernel_size[0]

    def _composed(self, layer: Callable[[Tensor], Tensor], context: Context) -> Tensor:
        """A transposed convolution from frames to groups, (B, O, T')."""
        weight, bias = layer.weight, layer.bias  # type: ignore[attr-defined]
        G = self.n_group
        cond = weight.view(len(weight), -1, G)  # (O, M, G)
        up = F.pad(self.weight, (0, -self.weight.shape[2] % G)).unflatten(2, (-1, G))
        whole = torch.einsum("omg,imkg->iok", cond, up)
        assert self.bias is not None
        offset = bias + torch.einsum("omg,m->o", cond, self.bias)
        out = F.conv_transpose1d(context.features, whole, offset, stride=self.hop // G)
        return out[:, :, : context.groups]

    def windowed(self, frames: Tensor) -> Tensor:
        """(B, M, before + n + after) -> (B, channels, n * groups in a frame)."""
        n = (frames.shape[2] - self.before) * self.hop // self.n_group
        return self.context(frames, frames.shape[2] * self.hop).features[:, :, -n:]

    def continued(self, mel: Tensor) -> Tensor:
        """(B, M, F) -> (B, M, before + F + after): nothing sounds before the first frame."""
        return F.pad(mel, (self.before, self.after))


class Interpolation(nn.Module):
    """The mel itself, normalised for each band and interpolated between the centres of frames.

    A frame's spectrum is centred on the first sample of its hop, so group g lies at frame
    (n_group g + (n_group - 1) / 2) / hop; before the first and after the last frame the nearest
    one holds. Interpolation and the 1x1 projection commute, so the projection is done at the rate
    of frames and its result is interpolated.

    mean, std    (M, 1) of the training mels; 0 and 1 until :meth:`fit`
    """

    mean: Tensor
    std: Tensor
    before, after = 0, 1

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.n_group, self.hop = config.n_group, config.upsample_stride
        self.groups_per_frame = self.hop // self.n_group
        self.channels = config.cond_channels
        self.register_buffer("mean", torch.zeros(config.n_mels, 1))
        self.register_buffer("std", torch.ones(config.n_mels, 1))

    @property
    def like(self) -> Tensor:
        return self.mean

    @torch.no_grad()
    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Take (M,) statistics of the training mels; a band without variation keeps its scale."""
        self.mean.copy_(mean[:, None])
        self.std.copy_(torch.where(std > 1e-3, std, 1.0)[:, None])

    def features(self, frames: Tensor) -> Tensor:
        """(B, M, before + n + after) -> (B, channels, n + 1) at the rate of frames."""
        return (frames - self.mean) / self.std

    def context(self, mel: Tensor, samples: int) -> Context:
        """mel (B, M, F) -> features at the rate of frames, with the frame after the last."""
        n = -(-samples // self.hop)
        if mel.shape[2] < n:
            raise UserError(_too_short(mel.shape[2], mel.shape[2] * self.hop, samples))
        spare = mel.shape[2] - n
        frames = self.continued(mel)
        # Frames beyond the wanted ones stand in for the repeated last one.
        frames = frames[:, :, : frames.shape[2] - spare]
        return Context(self.features(frames), samples // self.n_group)

    def project(self, layer: Callable[[Tensor], Tensor], context: Context) -> Tensor:
        """(B, O, T')."""
        return self.interpolated(layer(context.features), context.groups)

    def interpolated(self, x: Tensor, groups: int) -> Tensor:
        """(B, O, n + 1) at frames -> (B, O, groups)."""
        G = self.groups_per_frame
        at = (self.n_group * torch.arange(G, device=x.device) + (self.n_group - 1) / 2) / self.hop
        left, right = x[:, :, :-1, None], x[:, :, 1:, None]
        at = at.to(x.dtype)
        out = (left * (1 - at) + right * at).reshape(*x.shape[:2], -1)
        return out[:, :, :groups]

    def windowed(self, frames: Tensor) -> Tensor:
        """(B, M, before + n + after) -> (B, channels, n * groups in a frame)."""
        features = self.features(frames)
        return self.interpolated(features, (features.shape[2] - 1) * self.groups_per_frame)

    def continued(self, mel: Tensor) -> Tensor:
        """(B, M, F) -> (B, M, before + F + after): the ends hold."""
        first, last = mel[:, :, :1], mel[:, :, -1:]
        B, M = mel.shape[:2]
        return torch.cat([first.expand(B, M, self.before), mel, last.expand(B, M, self.after)], 2)


class FrameEncoder(Interpolation):
    """Two convolutions over frames in place of the upsampling's four frames of context, then
    interpolation: context is learned where it is cheap, once in a hop and not in every group."""

    before, after = 3, 4

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        self.wide = nn.Conv1d(config.n_mels, self.channels, 5)
        self.narrow = nn.Conv1d(self.channels, self.channels, 3)

    def features(self, frames: Tensor) -> Tensor:
        """(B, M, before + n + after) -> (B, channels, n + 1) at the rate of frames."""
        return self.narrow(F.leaky_relu(self.wide(super().features(frames)), LEAK))


MelPath = TransposedConv | Interpolation


def mel_path(config: FlowConfig) -> MelPath:
    """The way that ``config.conditioning`` names."""
    if config.conditioning == "upsampled":
        return TransposedConv(config)
    return FrameEncoder(config) if config.conditioning == "frame_rate" else Interpolation(config)


def _too_short(frames: int, covered: int, samples: int) -> str:
    return (
        f"mel of {frames} frames covers {covered} samples and the audio has "
        f"{samples}: they must be of the same speech, and the mel of this model's hop."
    )
