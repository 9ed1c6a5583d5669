"""The formula of model FLOPs against PyTorch's counter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from wg.flow import WaveGlow
from wg.flow.config import FlowConfig
from wg.flow.flops import computed, parameters, step_flops
from wg.flow.grow import sleep, starting_flows
from wg.flow.waveglow import nll
from wg.flow.width import set_width

SMALL = FlowConfig(
    n_mels=16, n_flows=6, n_layers=3, n_channels=16, upsample_kernel=512, upsample_stride=256
)
CONFIGS = {
    "small widths": replace(SMALL, n_channels=8),
    "no early output": FlowConfig(n_mels=8, n_flows=2, n_layers=1, n_channels=4),
    "other groups": FlowConfig(
        n_mels=8, n_flows=5, n_group=16, n_early_every=2, n_early_size=4, n_layers=2, n_channels=6,
        kernel_size=5, upsample_kernel=256, upsample_stride=128,
    ),
    "squeeze": replace(SMALL, n_group=32, n_early_size=8),
    "swapped halves": replace(SMALL, swap_odd_halves=True),
    "interpolated_mel": replace(SMALL, conditioning="interpolated"),
    "frame_rate": replace(SMALL, conditioning="frame_rate"),
    "frame_rate, squeeze": replace(SMALL, conditioning="frame_rate", n_group=32, n_early_size=8),
    "actnorm": replace(SMALL, actnorm=True),
    "actnorm, interpolated_mel": replace(SMALL, actnorm=True, conditioning="interpolated"),
    "mel_whiten": replace(SMALL, front="mel_whiten", front_n_fft=512),
    "lpc_whiten": replace(SMALL, front="lpc_whiten", front_order=24, front_n_fft=512),
}  # fmt: skip


def data(config: FlowConfig, B: int, T: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(B, config.n_mels, 1 + T // config.upsample_stride, generator=generator)
    return mel, 0.1 * torch.randn(B, T, generator=generator)


def made(config: FlowConfig) -> WaveGlow:
    model = WaveGlow(config)
    if model.front is not None:
        bins = config.front_n_fft // 2 + 1
        filters = torch.rand(config.n_mels, bins, generator=torch.Generator().manual_seed(1))
        model.front.spectrum.set_mel(filters, torch.hann_window(config.front_n_fft))
    return model


def counted(model: WaveGlow, B: int, T: int) -> int:
    with FlopCounterMode(display=False) as counter:
        nll(model(*data(model.config, B, T))).backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("T", [2048, 2048 + 128])  # the second is no whole number of hops
@pytest.mark.parametrize("name", CONFIGS)
def test_the_formula_counts_what_pytorch_counts(name: str, T: int) -> None:
    config, B = CONFIGS[name], 2
    assert step_flops(config, B, T) == counted(made(config), B, T)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters(name: str) -> None:
    config = CONFIGS[name]
    assert parameters(config) == sum(p.numel() for p in WaveGlow(config).parameters())


@pytest.mark.parametrize("conditioning", ["upsampled", "interpolated", "frame_rate"])
def test_sleeping_flows_and_channels_cost_nothing(conditioning: str) -> None:
    config = replace(SMALL, conditioning=conditioning)  # type: ignore[arg-type]
    model, whole = made(config), step_flops(config, 1, 2048)
    on = starting_flows(config, 3)
    sleep(model, [k for k in range(config.n_flows) if k not in on])
    flows = computed(model.active)
    assert flows == tuple(on)
    few = step_flops(config, 1, 2048, flows)
    assert few == counted(model, 1, 2048) < whole
    set_width(model, 8)
    assert step_flops(config, 1, 2048, flows, 8) == counted(model, 1, 2048) < few


def test_all_flows_are_no_table_of_their_own() -> None:
    assert computed([True, True]) is None
    assert step_flops(SMALL, 1, 2048, tuple(range(6))) == step_flops(SMALL, 1, 2048)


def test_the_paper_model_is_as_large_as_it_is_known_to_be() -> None:
    """87.9 million parameters, of which 87.2 million are at work at every group of 8 samples; the
    conditioning is 38.7% of the multiplications."""
    assert parameters(FlowConfig()) == 87_879_272
    a_sample = step_flops(FlowConfig(), 24, 16000) / (24 * 16000)
    assert a_sample == pytest.approx(60.9e6, rel=0.01)
    cond = 3 * 2 * 12 * 640 * 2 * 256 * 8 / 8
    assert cond / a_sample == pytest.approx(0.387, abs=0.005)


def test_recomputation_is_no_model_flop() -> None:
    model = made(SMALL)
    mel, audio = data(SMALL, 1, 2048)
    with FlopCounterMode(display=False) as counter:
        nll(checkpoint(model, mel, audio, use_reentrant=False)).backward()  # type: ignore[arg-type]
    assert counter.get_total_flops() > step_flops(SMALL, 1, 2048)
