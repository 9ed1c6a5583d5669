"""WaveGlow, both directions (Prenger, Valle, Catanzaro 2018: https://arxiv.org/abs/1811.00002).

Shapes: B batch, T samples, F mel frames, T' = T / n_group groups of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wg.errors import UserError
from wg.flow import reversible
from wg.flow.actnorm import ActNorm
from wg.flow.check import check_scale, check_tensor
from wg.flow.conditioning import Context, mel_path
from wg.flow.config import FlowConfig
from wg.flow.consistency import MelConsistency
from wg.flow.front import front_end
from wg.flow.layers import Invertible1x1Conv, WeightNormConv1d, at_least_fp32
from wg.flow.width import narrow
from wg.flow.wn import WN, share


class FlowOutput(NamedTuple):
    """What the likelihood needs.

    z          (B, n_group, T'), early outputs first
    log_s      (B,) sum of all log_s of each batch item
    log_det_W  scalar, sum over flows of log|det W|, counted once per group
    """

    z: Tensor
    log_s: Tensor
    log_det_W: Tensor


class WaveGlow(nn.Module):
    """Normalising flow between audio and Gaussian noise, conditioned on a mel spectrogram.

    Parameter names are those of NVIDIA's published checkpoints.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.upsample = mel_path(config)
        self.front = front_end(config)
        self.consistency = MelConsistency(config) if config.consistency else None
        channels = [config.channels(k) for k in range(config.n_flows)]
        self.actnorm = nn.ModuleList(ActNorm(c) for c in channels if config.actnorm)
        self.convinv = nn.ModuleList(Invertible1x1Conv(c) for c in channels)
        self.WN = nn.ModuleList(WN(c // 2, config, self.upsample.channels) for c in channels)
        # Flows that are computed. The rest must be exact identities (see wg.flow.grow), so
        # skipping them saves their time and changes nothing.
        self.active: list[bool] = [True] * config.n_flows
        # Channels of WN that are computed; None: all. What they read of the others must be zero
        # (see wg.flow.width), so that this saves their time and changes nothing.
        self.width: int | None = None
        # In training, undo each flow on the way back instead of keeping its input.
        self.reversible = False
        # What is known of a loaded model: sampling rate, mel settings, where from.
        self.meta: dict[str, Any] = {}

    @property
    def like(self) -> Tensor:
        """A tensor of the model's device and dtype, which every export keeps."""
        return self.upsample.like

    def _check(self, mel: Tensor, audio: Tensor | None = None, z: Tensor | None = None) -> None:
        """Raises :class:`UserError` for what a caller got wrong; reads shapes and never values,
        so it is free on a GPU and passes a tracer."""
        c, like = self.config, self.like
        # Autocast converts what enters the couplings, but not the signal in forward.
        cast = torch.is_autocast_enabled(like.device.type)
        check_tensor("mel", mel, ("B", c.n_mels, "F"), like, any_float=cast)
        if z is not None:
            check_tensor("z", z, self.z_shape(mel.shape[0], mel.shape[2]), like, any_float=cast)
        if audio is not None:
            check_tensor("audio", audio, (mel.shape[0], "T"), like, any_float=True)
            # Halves are computed with in fp32, like the matrices that mix them.
            exact = [torch.promote_types(t.dtype, torch.float32) for t in (audio, like)]
            if exact[0] != exact[1]:
                raise UserError(f"audio of {audio.dtype} must be of {like.dtype}, as the model is.")
            if audio.shape[1] % c.n_group:
                raise UserError(
                    f"audio of {audio.shape[1]} samples must be a multiple of {c.n_group}: cut it "
                    "or add zeros."
                )

    # -- conditioning ---------------------------------------------------------------------

    def project(self, k: int, context: Context) -> Tensor:
        """Flow k's share of the mel, (B, 2 * C * L, T')."""
        return self.upsample.project(self.coupling(k).cond_layer, context)  # type: ignore[arg-type]

    def coupling(self, k: int) -> nn.Module:
        """What computes flow k's (b, log_s): its WN, or as much of it as is awake."""
        wn = self.WN[k]
        return wn if self.width is None or not isinstance(wn, WN) else narrow(wn, self.width)

    def conditioning(self, mel: Tensor, samples: int) -> list[Tensor | None]:
        """Every computed flow's share of the mel, (B, 2 * C * L, T') each: most of a small
        model's work. Give it to :meth:`forward` and :meth:`infer` to do it once for both."""
        context = self.upsample.context(mel, samples)
        return [self.project(k, context) if on else None for k, on in enumerate(self.active)]

    # -- audio -> z -----------------------------------------------------------------------

    def forward(
        self, mel: Tensor, audio: Tensor, shared: Sequence[Tensor | None] | None = None
    ) -> FlowOutput:
        """mel (B, n_mels, F), audio (B, T) with T a multiple of n_group -> :class:`FlowOutput`.

        The upsampled mel must cover the audio; its first T samples are used. ``shared`` is
        :meth:`conditioning` of the mel, when it is known already. Raises :class:`UserError` for
        arguments of other shapes, dtypes or devices.
        """
        self._check(mel, audio=audio)
        G = self.config.n_group
        B, T = audio.shape
        context = None if shared is not None else self.upsample.context(mel, T)
        log_s_sum = audio.new_zeros(B)
        if self.front is not None:
            audio, log_s_sum = self.front(mel, audio)
        x = audio.reshape(B, T // G, G).transpose(1, 2)
        if self.reversible and context is not None and torch.is_grad_enabled():
            z, log_s, log_det_W = reversible.flow(self, x, context)
            return FlowOutput(z, log_s_sum + log_s, log_det_W)

        early: list[Tensor] = []
        log_det_W = audio.new_zeros(())
        for k in range(self.config.n_flows):
            if self.config.has_early_output(k):
                early.append(x[:, : self.config.n_early_size])
                x = x[:, self.config.n_early_size :]
            if not self.active[k]:
                continue
            with torch.autocast(audio.device.type, enabled=False):
                if self.config.actnorm:
                    x, log_det = self.actnorm[k](x)
                    log_det_W = log_det_W + log_det
                x, log_det = self.convinv[k](x)
            a0, a1 = self._split(k, x)
            b, log_s = at_least_fp32(self._coupling(k, a0, context, shared)).chunk(2, dim=1)
            x = self._join(k, a0, torch.exp(log_s) * a1 + b)
            log_s_sum = log_s_sum + log_s.sum(dim=(1, 2))
            log_det_W = log_det_W + log_det
        return FlowOutput(torch.cat([*early, x], dim=1), log_s_sum, log_det_W)

    def _split(self, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """(the half that conditions, the half that is transformed) of flow k's channels."""
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.config.swaps(k) else (first, second)

    def _join(self, k: int, a0: Tensor, a1: Tensor) -> Tensor:
        """The inverse of :meth:`_split`."""
        return torch.cat([a1, a0] if self.config.swaps(k) else [a0, a1], dim=1)

    def _coupling(
        self, k: int, a0: Tensor, context: Context | None, shared: Sequence[Tensor | None] | None
    ) -> Tensor:
        """(b, log_s) of flow k as (B, 2 * n_half, T'). The projection is made flow by flow: all
        of them at once would be most of the memory of a forward pass."""
        wn = self.coupling(k)
        if shared is not None:
            return wn(a0, shared[k])  # type: ignore[no-any-return]
        assert context is not None
        return wn(a0, share(wn, self.upsample, context))  # type: ignore[no-any-return]

    # -- z -> audio -----------------------------------------------------------------------

    def z_shape(self, batch: int, frames: int) -> tuple[int, int, int]:
        """(B, n_group, T') of the noise behind ``frames`` mel frames."""
        groups = frames * self.config.upsample_stride // self.config.n_group
        return batch, self.config.n_group, groups

    def noise(self, batch: int, frames: int, generator: torch.Generator | None = None) -> Tensor:
        """Unit Gaussian z (B, n_group, T'), drawn in the order of the published inference:
        the final channels first, then each early output from the last to the first."""
        c = self.config
        _, _, groups = self.z_shape(batch, frames)
        n_early = (c.n_flows - 1) // c.n_early_every
        widths = [c.channels(c.n_flows - 1)] + [c.n_early_size] * n_early
        p = self.like
        device = p.device if generator is None else generator.device
        parts = [torch.randn(batch, w, groups, generator=generator, device=device) for w in widths]
        return torch.cat(parts[::-1], dim=1).to(p)

    def infer(
        self,
        mel: Tensor,
        sigma: float = 1.0,
        z: Tensor | None = None,
        generator: torch.Generator | None = None,
        shared: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """mel (B, n_mels, F) -> audio (B, F * hop).

        z (B, n_group, T') unit noise in :meth:`forward`'s layout, scaled by ``sigma`` here;
        drawn from ``generator`` when not given. Differentiable; wrap in ``no_grad`` to vocode.
        Raises :class:`UserError` for arguments of other shapes, dtypes or devices.
        """
        audio = self.excite(mel, sigma, z, generator, shared)
        if self.front is not None:
            audio = self.front.inverse(mel, audio)
        # Without noise there are no magnitudes of noise to be fitted.
        return audio if self.consistency is None or sigma == 0 else self.consistency(mel, audio)

    def excite(
        self,
        mel: Tensor,
        sigma: float = 1.0,
        z: Tensor | None = None,
        generator: torch.Generator | None = None,
        shared: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """:meth:`infer` by the flow alone: what a front end's inverse turns into audio, and the
        audio itself where there is none."""
        self._check(mel, z=z)
        check_scale("sigma", sigma)
        c = self.config
        B, _, frames = mel.shape
        if z is None:
            z = self.noise(B, frames, generator)
        # A transposed convolution's tail covers no frame of its own.
        samples = frames * c.upsample_stride
        context = None if shared is not None else self.upsample.context(mel, samples)
        z = sigma * z
        n_left = c.channels(c.n_flows - 1)
        x, z = z[:, -n_left:], z[:, :-n_left]
        for k in reversed(range(c.n_flows)):
            if self.active[k]:
                x = self._uncouple(k, x, self._coupling(k, self._split(k, x)[0], context, shared))
            if c.has_early_output(k):
                x = torch.cat([z[:, -c.n_early_size :], x], dim=1)
                z = z[:, : -c.n_early_size]
        return x.transpose(1, 2).reshape(B, -1)

    def inverse_flow(
        self, k: int, x: Tensor, grouped: Tensor, beyond: Tensor | None, keep: slice
    ) -> Tensor:
        """Flow k of :meth:`infer` alone: x (B, C, n) and the mel's context in groups around and
        at the positions ``keep`` -> (B, C, len(keep)). ``beyond`` is WN's."""
        wn = self.WN[k]
        out = wn(self._split(k, x)[0], wn.cond_layer(grouped), beyond)  # type: ignore[operator]
        return self._uncouple(k, x[:, :, keep], out[:, :, keep])

    def _uncouple(self, k: int, x: Tensor, coupling: Tensor) -> Tensor:
        """Flow k backwards, given what its WN says."""
        a0, a1 = self._split(k, x)
        b, log_s = coupling.to(x.dtype).chunk(2, dim=1)
        x = self._join(k, a0, (a1 - b) * torch.exp(-log_s))
        # Any module with inverse() will do: an export puts constants here.
        x = self.convinv[k].inverse(x)  # type: ignore[operator]
        return self.actnorm[k].inverse(x) if self.config.actnorm else x  # type: ignore[operator]

    # -- inference ------------------------------------------------------------------------

    def remove_weight_norm(self) -> WaveGlow:
        """Fold every weight norm into a plain weight, in place; for inference and export."""
        for wn in self.WN:
            assert isinstance(wn, WN)
            for name in ("start", "cond_layer"):
                layer = getattr(wn, name)
                if isinstance(layer, WeightNormConv1d):
                    setattr(wn, name, layer.folded())
            for layers in (wn.in_layers, wn.res_skip_layers):
                _fold_list(layers)
        return self


def _fold_list(layers: nn.ModuleList) -> None:
    for i, layer in enumerate(list(layers)):
        if isinstance(layer, WeightNormConv1d):
            layers[i] = layer.folded()


def nll(output: FlowOutput, sigma: float = 1.0) -> Tensor:
    """Negative log-likelihood per sample, without the Gaussian constant (Prenger et al. 2018,
    eq. 5): [sum z^2 / (2 sigma^2) - sum log_s - B T' sum log|det W|] / (B n_group T')."""
    z = at_least_fp32(output.z)
    B, _, groups = z.shape
    total = (z * z).sum() / (2 * sigma**2) - output.log_s.sum() - B * groups * output.log_det_W
    return total / z.numel()


def gaussian_constant(sigma: float = 1.0) -> float:
    """0.5 ln(2 pi sigma^2): add to :func:`nll` for nats per sample, so that sigmas compare."""
    return 0.5 * float(torch.log(torch.tensor(2 * torch.pi * sigma**2, dtype=torch.float64)))
