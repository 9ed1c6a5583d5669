"""The size of a WaveGlow, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from wg.errors import UserError
from wg.fields import fill

# What a published WaveGlow has not.
EXTENSIONS = ("conditioning", "front", "front_order", "front_n_fft", "actnorm", "consistency")


@dataclass(frozen=True)
class FlowConfig:
    """Hyperparameters of WaveGlow (Prenger et al. 2018, section 2); defaults: the paper model.

    Raises :class:`UserError` for sizes that cannot be built.
    """

    n_mels: int = 80
    n_flows: int = 12
    n_group: int = 8
    n_early_every: int = 4
    n_early_size: int = 2
    n_layers: int = 8
    n_channels: int = 256
    kernel_size: int = 3
    upsample_kernel: int = 1024
    upsample_stride: int = 256
    # NVIDIA's glow_old.py: on odd flows the second half of the channels conditions the first.
    swap_odd_halves: bool = False
    # What strategies change: see wg.flow.conditioning, front, actnorm and consistency.
    conditioning: Literal["upsampled", "interpolated", "frame_rate"] = "upsampled"
    front: Literal["none", "mel_whiten", "lpc_whiten"] = "none"
    front_order: int = 128
    front_n_fft: int = 1024
    actnorm: bool = False
    consistency: int = 0  # rounds; 0: generated audio is left as it is

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            least = 0 if f.name == "consistency" else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise UserError(f"model.{f.name}={value} must be at least {least}.")
        if self.n_group % 2 or self.n_early_size % 2:
            raise UserError(
                f"model.n_group={self.n_group} and model.n_early_size={self.n_early_size} must be "
                "even: a coupling splits the channels in half."
            )
        if self.channels(self.n_flows - 1) < 2:
            raise UserError(
                f"model: {self.n_flows} flows with an early output of {self.n_early_size} channels "
                f"every {self.n_early_every} leave no channels of n_group={self.n_group}; use "
                "fewer flows, a larger n_group or a larger n_early_every."
            )
        if self.kernel_size % 2 == 0:
            raise UserError(f"model.kernel_size={self.kernel_size} must be odd.")
        if self.upsample_stride % self.n_group:
            raise UserError(
                f"model.n_group={self.n_group} must divide the hop of {self.upsample_stride} "
                "samples, so that every mel frame is a whole number of groups."
            )
        if self.upsample_kernel < self.upsample_stride:
            raise UserError("model.upsample_kernel must not be shorter than upsample_stride.")
        if self.front == "lpc_whiten" and self.front_order > self.front_n_fft // 2:
            raise UserError(
                f"strategy.lpc_whiten.order={self.front_order} asks for more lags than a mel of "
                f"data.mel.n_fft={self.front_n_fft} tells: at most half of it."
            )

    def has_early_output(self, k: int) -> bool:
        """Whether channels leave the flow just before flow ``k`` (0-based)."""
        return k > 0 and k % self.n_early_every == 0

    def channels(self, k: int) -> int:
        """Channels that flow ``k`` works on."""
        return self.n_group - self.n_early_size * (k // self.n_early_every)

    @property
    def cond_channels(self) -> int:
        """Channels of the mel's context, which each flow's ``cond_layer`` reads."""
        ways = {"upsampled": self.n_group, "interpolated": 1, "frame_rate": 2}
        return self.n_mels * ways[self.conditioning]

    def swaps(self, k: int) -> bool:
        """Whether flow ``k`` transforms the first half of its channels instead of the second."""
        return self.swap_odd_halves and k % 2 == 1

    def stages(self) -> list[list[int]]:
        """Flow indices between early outputs: one list a stage, equal channels within it."""
        return [
            list(range(s, min(s + self.n_early_every, self.n_flows)))
            for s in range(0, self.n_flows, self.n_early_every)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what a published model has not is left out where it is not used, so that
        folders of published models stay what they were."""
        ours = {f.name: f.default for f in fields(self) if f.name in EXTENSIONS}
        return {k: v for k, v in asdict(self).items() if k not in ours or v != ours[k]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FlowConfig:
        return cls(**fill(cls, values, "model"))
