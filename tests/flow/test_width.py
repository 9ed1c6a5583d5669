"""Narrow WNs: slices of the whole, equal to it while channels sleep, alive when they wake."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests_helpers import trained_looking
from torch import Tensor

from wg.flow import FlowConfig, WaveGlow
from wg.flow.waveglow import nll
from wg.flow.width import channels_of, set_width, silence

CONFIG = FlowConfig(n_flows=3, n_early_every=2, n_layers=3, n_channels=16, n_mels=10)


def batch(model: WaveGlow) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    mel = torch.randn(2, 10, 6, generator=generator)
    return mel.to(model.like), 0.3 * torch.randn(2, 1024, generator=generator).to(model.like)


def gradients(model: WaveGlow) -> dict[str, Tensor]:
    model.zero_grad()
    nll(model(*batch(model))).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("way", ["plain", "fused", "recompute", "reversible"])
@pytest.mark.parametrize("conditioning", ["upsampled", "interpolated"])
def test_the_narrow_model_is_the_whole_one(conditioning: str, way: str) -> None:
    """Loss, gradients and speech; sleeping rows get no gradient, and the zeros one only when
    they wake."""
    model = trained_looking(replace(CONFIG, conditioning=conditioning)).double()  # type: ignore[arg-type]
    model.reversible = way == "reversible"
    for wn in model.WN:
        wn.fused, wn.recompute = way == "fused", way == "recompute"
    set_width(model, 8)
    narrow = gradients(model)
    mel, audio = batch(model)
    loss = nll(model(mel, audio))
    z = model.noise(2, 6, torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        speech = model.infer(mel, z=z)
    set_width(model, 16)
    assert model.width is None
    assert torch.isclose(nll(model(mel, audio)), loss, rtol=1e-10)
    with torch.no_grad():
        assert torch.allclose(model.infer(mel, z=z), speech, atol=1e-10)
    whole = gradients(model)
    assert set(narrow) == set(whole)
    for name, g in narrow.items():
        if "WN" not in name:
            assert torch.allclose(g, whole[name], atol=1e-9), name
    first, full = narrow["WN.0.in_layers.1.weight_v"], whole["WN.0.in_layers.1.weight_v"]
    awake = torch.cat([torch.arange(8), 16 + torch.arange(8)])
    asleep = torch.cat([8 + torch.arange(8), 24 + torch.arange(8)])
    assert torch.allclose(first[awake][:, :8], full[awake][:, :8], atol=1e-9)
    assert float(first[asleep].abs().max()) == 0
    assert float(first[:, 8:].abs().max()) == 0
    assert float(full[awake][:, 8:].abs().max()) > 0
    assert float(whole["WN.0.end.weight"][:, 8:].abs().min()) > 0


def test_what_an_optimizer_writes_into_sleeping_channels_is_not_heard() -> None:
    model = trained_looking(CONFIG)
    set_width(model, 8)
    mel, audio = batch(model)
    before = nll(model(mel, audio))
    with torch.no_grad():
        for p in model.WN.parameters():
            if p.dim() == 3 and p.shape[1] == 16:
                p[:, 8:] += 0.1
    silence(model)
    set_width(model, 16)
    assert torch.isclose(nll(model(mel, audio)), before, rtol=1e-5)


@pytest.mark.parametrize(
    ("channels", "share", "width"), [(64, 0.5, 32), (64, 0.3, 16), (64, 0.01, 8), (10, 0.5, 5)]
)
def test_shares_are_whole_groups(channels: int, share: float, width: int) -> None:
    assert channels_of(WaveGlow(replace(CONFIG, n_channels=channels)), share) == width
    assert channels_of(WaveGlow(replace(CONFIG, n_channels=channels)), 1.0) == channels
