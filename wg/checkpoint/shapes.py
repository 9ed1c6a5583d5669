"""The size of a WaveGlow, read off the shapes of its weights, and whether they fit it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from wg.checkpoint.layouts import shown
from wg.errors import UserError
from wg.flow.config import FlowConfig

Shapes = dict[str, tuple[int, ...]]

TRIED = (
    "NVIDIA/waveglow's (cond_layer or cond_layers, res_skip_layers or res_layers and "
    "skip_layers), DeepLearningExamples' and wg's own, with weight norm (weight_g and weight_v, or "
    "parametrizations) and folded"
)

_IN_FLOW = re.compile(r"(convinv|WN)\.([0-9]{1,4})\..+")
_MIXING = re.compile(r"convinv\.([0-9]+)\.conv\.weight")
_IN_LAYER = re.compile(r"WN\.0\.in_layers\.([0-9]{1,4})\..+")
# NVIDIA's upsampling is four times as long as its stride: 1024 to 256.
KERNEL_PER_STRIDE = 4


def infer_config(
    weights: Mapping[str, Tensor], hints: Mapping[str, Any], source: str
) -> FlowConfig:
    """The size that the shapes of ``weights`` (wg's names) describe.

    hints: settings of :class:`FlowConfig` that the file tells. They are needed where shapes are
    silent (the stride of the upsampling, where early outputs would be in a longer model, the
    swapped halves) and ignored where the shapes say otherwise.

    Raises :class:`UserError` when a weight that tells a size is missing, or for an impossible
    size.
    """
    upsample = _shape(weights, "upsample.weight", 3, source)
    cond = _shape(weights, "WN.0.cond_layer.weight", 3, source)
    in_layer = _shape(weights, "WN.0.in_layers.0.weight", 3, source)
    start = _shape(weights, "WN.0.start.weight", 3, source)
    flows = {m[2] for m in map(_IN_FLOW.fullmatch, weights) if m}
    layers = {m[1] for m in map(_IN_LAYER.fullmatch, weights) if m}
    if len(flows) * len(layers) > len(weights):
        raise UserError(
            f"{source} names {len(flows)} flows and {len(layers)} layers, but holds only "
            f"{len(weights)} weights: most of them are missing."
        )
    channels = [
        _shape(weights, f"convinv.{k}.conv.weight", 3, source)[0] for k in range(len(flows))
    ]
    if upsample[0] == 0 or cond[1] % upsample[0]:
        raise UserError(
            f"{source} does not fit together: its conditioning takes {cond[1]} channels, which is "
            f"no multiple of the {upsample[0]} mel bands of upsample.weight."
        )
    every, size = _early(channels, hints)
    try:
        return FlowConfig(
            n_mels=upsample[0],
            n_flows=len(flows),
            n_group=cond[1] // upsample[0],
            n_early_every=every,
            n_early_size=size,
            n_layers=len(layers),
            n_channels=start[0],
            kernel_size=in_layer[2],
            upsample_kernel=upsample[2],
            upsample_stride=hints.get("upsample_stride", upsample[2] // KERNEL_PER_STRIDE),
            swap_odd_halves=hints.get("swap_odd_halves", False),
        )
    except UserError as e:
        raise UserError(f"{source} is no WaveGlow that can be built: {e}") from None


def _shape(weights: Mapping[str, Tensor], name: str, dims: int, source: str) -> tuple[int, ...]:
    """The shape of a weight, which may have a weight norm."""
    value = weights.get(name, weights.get(f"{name}_v"))
    if value is None:
        raise UserError(
            f"{source} lacks {name} (or {name}_v), so its size cannot be told; it holds "
            f"{shown(weights)}. wg knows these layouts: {TRIED}."
        )
    if value.dim() != dims:
        raise UserError(f"{source}: {name} is {tuple(value.shape)} and should have {dims} sizes.")
    return tuple(value.shape)


def _early(channels: list[int], hints: Mapping[str, Any]) -> tuple[int, int]:
    """(n_early_every, n_early_size) that give the channels of the flows; what the file says
    when it does, else what the shapes say."""
    every, size = hints.get("n_early_every", 0), hints.get("n_early_size", 0)
    if (
        every > 0
        and size > 0
        and channels == [channels[0] - size * (k // every) for k in range(len(channels))]
    ):
        return every, size
    for k, c in enumerate(channels):
        if c != channels[0]:
            return k, channels[0] - c
    return len(channels), size if size > 0 else FlowConfig.n_early_size


def expected_shapes(config: FlowConfig, folded: Callable[[str], bool]) -> Shapes:
    """Every parameter's name and shape; ``folded`` tells which layers have no weight norm.

    Computed, not built: a damaged file may describe a model that no memory holds.
    """
    c = config
    shapes: Shapes = _ways(config)

    def conv(name: str, n_out: int, n_in: int, kernel: int = 1) -> None:
        shapes[f"{name}.bias"] = (n_out,)
        if folded(name):
            shapes[f"{name}.weight"] = (n_out, n_in, kernel)
        else:
            shapes[f"{name}.weight_g"] = (n_out, 1, 1)
            shapes[f"{name}.weight_v"] = (n_out, n_in, kernel)

    for k in range(c.n_flows):
        n, half = c.channels(k), c.channels(k) // 2
        shapes[f"convinv.{k}.conv.weight"] = (n, n, 1)
        if c.actnorm:
            shapes[f"actnorm.{k}.offset"] = shapes[f"actnorm.{k}.log_scale"] = (n, 1)
        conv(f"WN.{k}.start", c.n_channels, half)
        conv(f"WN.{k}.cond_layer", 2 * c.n_channels * c.n_layers, c.cond_channels)
        for i in range(c.n_layers):
            both = 2 if i < c.n_layers - 1 else 1  # the last layer has no residual half
            conv(f"WN.{k}.in_layers.{i}", 2 * c.n_channels, c.n_channels, c.kernel_size)
            conv(f"WN.{k}.res_skip_layers.{i}", both * c.n_channels, c.n_channels)
        shapes[f"WN.{k}.end.weight"] = (2 * half, c.n_channels, 1)
        shapes[f"WN.{k}.end.bias"] = (2 * half,)
    return shapes


def _ways(c: FlowConfig) -> Shapes:
    """What is there once: the mel's way in, and what stands behind the flow."""
    M = c.n_mels
    if c.conditioning == "upsampled":
        shapes: Shapes = {"upsample.weight": (M, M, c.upsample_kernel), "upsample.bias": (M,)}
    else:
        shapes = {"upsample.mean": (M, 1), "upsample.std": (M, 1)}
    if c.conditioning == "frame_rate":
        shapes |= {
            "upsample.wide.weight": (2 * M, M, 5),
            "upsample.wide.bias": (2 * M,),
            "upsample.narrow.weight": (2 * M, 2 * M, 3),
            "upsample.narrow.bias": (2 * M,),
        }
    if c.front != "none":
        shapes["front.spectrum.envelope"] = (c.front_n_fft // 2 + 1, M)
        shapes["front.spectrum.energy"] = ()
    if c.consistency:
        shapes["consistency.filters"] = (M, c.front_n_fft // 2 + 1)
        shapes["consistency.window"] = (c.front_n_fft,)
    return shapes


def check_fit(config: FlowConfig, weights: Mapping[str, Tensor], source: str) -> None:
    """Raises :class:`UserError` naming the first keys that differ from a model of this size:
    missing, unexpected, or of another shape; or the first weight that cannot be computed with."""
    if config.n_flows * config.n_layers > len(weights):  # before all of their names are made
        raise UserError(
            f"{source} claims {config.n_flows} flows of {config.n_layers} layers, but holds only "
            f"{len(weights)} weights: most of them are missing."
        )
    wanted = expected_shapes(config, lambda name: f"{name}.weight" in weights)
    missing = [n for n in wanted if n not in weights]
    unexpected = [n for n in weights if n not in wanted]
    other = [
        f"{n} is {tuple(weights[n].shape)} and should be {shape}"
        for n, shape in wanted.items()
        if n in weights and tuple(weights[n].shape) != shape
    ]
    if missing or unexpected or other:
        told = [f"missing {shown(missing)}"] if missing else []
        told += [f"unexpected {shown(unexpected)}"] if unexpected else []
        told += other[:3] + ([f"{len(other) - 3} more of other shapes"] if other[3:] else [])
        raise UserError(
            f"{source} does not fit the WaveGlow that its shapes describe ({config.n_flows} flows, "
            f"{config.n_channels} channels, {config.n_layers} layers, {config.n_mels} mel bands): "
            f"{'; '.join(told)}. wg knows these layouts: {TRIED}."
        )

    _check_values(weights, source)


def _check_values(weights: Mapping[str, Tensor], source: str) -> None:
    """Weights of the right shapes that give no audio all the same."""
    for name, value in weights.items():
        # The extremes tell it in one pass: NaN is both where there is one.
        if not value.is_floating_point() or not torch.stack(value.aminmax()).isfinite().all():
            raise UserError(
                f"{source}: {name} holds values that are not finite numbers, so the model gives no "
                "audio; take an earlier or another checkpoint."
            )
        flow = _MIXING.fullmatch(name)
        if flow and not bool(torch.linalg.inv_ex(value[:, :, 0].float())[0].isfinite().all()):
            raise UserError(
                f"{source}: the matrix of flow {flow[1]} ({name}) has no inverse, so the model "
                "gives no audio; take an earlier or another checkpoint."
            )


def check_attributes(config: FlowConfig, attributes: Mapping[str, Any], source: str) -> None:
    """What a pickled module says of its convolutions, beside their shapes, must be what wg
    computes. Raises :class:`UserError` naming the first that is not."""
    wanted: dict[str, Any] = {"upsample.padding": (0,), "upsample.output_padding": (0,)}
    for k in range(config.n_flows):
        for i in range(config.n_layers):
            wanted[f"WN.{k}.in_layers.{i}.dilation"] = (2**i,)
            wanted[f"WN.{k}.in_layers.{i}.padding"] = (2**i * (config.kernel_size - 1) // 2,)
    for name, value in wanted.items():
        if name in attributes and attributes[name] != value:
            raise UserError(
                f"{source} is a variant of WaveGlow that wg cannot compute: {name} is "
                f"{attributes[name]}, and {value} in the published model."
            )
